//! Who is let in, who is served first, and by whom.

use futures_util::FutureExt;

use super::*;
use crate::workers::request::{Missed, Pending, Task, reply};

const SECOND: Duration = Duration::from_secs(1);

fn queue(workers: usize, batch: usize, waiting: usize) -> Queue {
    Queue::new("test", Bounds { workers, batch, waiting })
}

type Answer<T> = Pending<Result<T, Error>>;

fn get(queue: &Queue, url: &str) -> Result<(Answer<Lookup>, Next), Shed> {
    let (reply, pending) = reply(Instant::now() + SECOND);
    queue.push_get(url, reply).map(|next| (pending, next))
}

/// A put as the queue sees it, of so many bytes; told from others by its bytes.
fn put(queue: &Queue, bytes: usize) -> Result<(Answer<()>, Next), Shed> {
    let (request, pending) = Request::new(Instant::now() + SECOND, false, bytes, Task::Purge);
    queue.push(request).map(|next| (pending, next))
}

fn delete(queue: &Queue, bytes: usize) -> Answer<()> {
    let (request, pending) = Request::new(Instant::now() + SECOND, true, bytes, Task::Purge);
    assert!(queue.push(request).is_ok());
    pending
}

/// What a worker takes, in words.
fn taken(queue: &Queue, number: usize) -> Vec<String> {
    match queue.take(number, &Arc::default()) {
        None => Vec::new(),
        Some(Work::Gets(gets)) => {
            gets.iter().map(|get| format!("get {} x{}", get.url, get.callers())).collect()
        }
        Some(Work::One(Request { urgent: true, bytes, .. })) => vec![format!("delete {bytes}")],
        Some(Work::One(Request { urgent: false, bytes, .. })) => vec![format!("put {bytes}")],
    }
}

#[tokio::test(start_paused = true)]
async fn gets_travel_together_up_to_a_batch_and_those_of_one_url_share_a_place() {
    let queue = queue(1, 3, 100);
    let _waiting = ["a", "b", "a", "c", "d", "a"].map(|url| get(&queue, url).unwrap());
    assert_eq!(taken(&queue, 0), ["get a x3", "get b x1", "get c x1"]);
    // What is in flight is not joined.
    let _again = get(&queue, "a").unwrap();
    assert_eq!(taken(&queue, 0), ["get d x1", "get a x1"]);
    assert_eq!((taken(&queue, 0), queue.count().waiting), (vec![], 0));
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_bounded_in_bytes_too() {
    let queue = queue(1, 32, 100);
    let url = |number: usize| format!("{number}{}", "x".repeat(2_000));
    let _waiting: Vec<_> = (0..32).map(|number| get(&queue, &url(number)).unwrap()).collect();
    assert_eq!(taken(&queue, 0).len(), 24);
    assert_eq!(taken(&queue, 0).len(), 8);
}

#[tokio::test(start_paused = true)]
async fn deletes_go_before_puts_and_each_in_their_order() {
    let queue = queue(1, 32, 100);
    let _puts = [1, 2].map(|bytes| put(&queue, bytes).unwrap());
    let _deletes = [3, 4].map(|bytes| delete(&queue, bytes));
    let order: Vec<_> = (0..4).flat_map(|_| taken(&queue, 0)).collect();
    assert_eq!(order, ["delete 3", "delete 4", "put 1", "put 2"]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_any_more_is_not_begun() {
    let queue = queue(1, 32, 100);
    drop(get(&queue, "left").unwrap());
    drop(put(&queue, 1).unwrap());
    drop(delete(&queue, 1));
    let late = get(&queue, "late").unwrap();
    tokio::time::advance(SECOND).await;
    let shared = (get(&queue, "shared").unwrap(), get(&queue, "shared").unwrap());
    drop(shared.0);
    assert_eq!(taken(&queue, 0), ["get shared x2"]);
    assert_eq!((taken(&queue, 0), queue.count().waiting), (vec![], 0));
    assert_eq!(late.0.answer().await, (Err(Missed::NotBegun), 0));
}

/// However many come and go: their places are given to others.
#[tokio::test(start_paused = true)]
async fn callers_who_leave_keep_neither_place_nor_room() {
    let queue = queue(1, 32, 1_000);
    for number in 0..10_000 {
        drop(get(&queue, "same").unwrap());
        drop(get(&queue, &number.to_string()).unwrap());
        drop(put(&queue, 16_384).unwrap());
        drop(delete(&queue, 1));
        let places = queue.state.lock().waiting.places();
        assert!(places <= 2 * waiting::FEW, "{number}: {places}");
    }
    assert_eq!(queue.shed(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_in_calls_and_in_bytes() {
    let calls = queue(1, 32, 10);
    let _first: Vec<_> = (0..10).map(|number| get(&calls, &number.to_string()).unwrap()).collect();
    assert_eq!(get(&calls, "one more").err(), Some(Shed));
    assert_eq!(get(&calls, "0").err(), Some(Shed), "a caller who shares a place waits too");
    let bytes = queue(1, 32, 100_000);
    let puts: Vec<_> = std::iter::from_fn(|| put(&bytes, 16_384).ok()).collect();
    assert!((490..=512).contains(&puts.len()), "{} puts", puts.len());
    assert_eq!((calls.shed(), bytes.shed()), (2, 1));
}

/// A flood must not keep out what takes documents away.
#[tokio::test(start_paused = true)]
async fn a_queue_full_of_puts_has_room_for_deletes() {
    let queue = queue(1, 32, 10);
    let _puts: Vec<_> = (0..10).map(|_| put(&queue, 1).unwrap()).collect();
    assert_eq!(put(&queue, 1).err(), Some(Shed));
    let _deletes: Vec<_> = (0..10).map(|_| delete(&queue, 1)).collect();
    let (one_more, _) = Request::new(Instant::now() + SECOND, true, 1, Task::Purge);
    assert_eq!(queue.push(one_more).err(), Some(Shed));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_could_not_be_served_in_time_is_shed_at_the_door() {
    let queue = queue(2, 32, 100);
    // Two workers, each of which takes 0.6 s for each.
    for _ in 0..40 {
        let _waiting = [0, 1].map(|bytes| put(&queue, bytes).unwrap());
        assert_eq!((taken(&queue, 0).len(), taken(&queue, 1).len()), (1, 1));
        tokio::time::advance(SECOND * 6 / 10).await;
        assert_eq!((taken(&queue, 0).len(), taken(&queue, 1).len()), (0, 0));
    }
    let _busy = [0, 1].map(|bytes| put(&queue, bytes).unwrap());
    assert_eq!((taken(&queue, 0).len(), taken(&queue, 1).len()), (1, 1));
    // Of two workers one is free every 0.3 s.
    let _waiting = [2, 3, 4].map(|bytes| put(&queue, bytes).unwrap());
    assert_eq!(put(&queue, 1).err(), Some(Shed));
    // A delete goes before them.
    let _delete = delete(&queue, 1);
    assert_eq!(queue.shed(), 1);
}

#[tokio::test(start_paused = true)]
async fn work_that_hangs_sheds_what_comes_behind_it() {
    let queue = queue(1, 1, 100);
    let _hangs = get(&queue, "hangs").unwrap();
    assert_eq!(taken(&queue, 0).len(), 1);
    tokio::time::advance(SECOND * 2).await;
    let _behind = get(&queue, "behind it").unwrap();
    assert_eq!(get(&queue, "third").err(), Some(Shed));
}

#[tokio::test(start_paused = true)]
async fn workers_are_started_when_there_is_none_free_and_the_first_of_those_is_woken() {
    let queue = queue(2, 1, 100);
    let started = |next: Next| if let Next::Start(number) = next { Some(number) } else { None };
    assert_eq!(started(get(&queue, "a").unwrap().1), Some(0));
    let _b = get(&queue, "b").unwrap();
    let wakes: [Arc<Notify>; 2] = Default::default();
    // Both have done what there was, the second one first.
    for number in [1, 0] {
        assert!(queue.take(number, &wakes[number]).is_none() || queue.take(number, &wakes[number]).is_none());
    }
    let Next::Wake(first) = get(&queue, "c").unwrap().1 else { panic!("both are free") };
    assert!(Arc::ptr_eq(&first, &wakes[0]));
    let Next::Wake(second) = get(&queue, "d").unwrap().1 else { panic!("one is free") };
    assert!(Arc::ptr_eq(&second, &wakes[1]));
    assert!(matches!(get(&queue, "e").unwrap().1, Next::Busy));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_given_work_does_not_retire_and_one_that_has_gone_leaves_its_place() {
    let queue = queue(1, 1, 100);
    drop(get(&queue, "a").unwrap());
    assert!(queue.take(0, &Arc::default()).is_none());
    let _b = get(&queue, "b").unwrap();
    assert!(!queue.retires(0), "it was woken");
    assert!(queue.connects(0), "there is something to do");
    assert_eq!(taken(&queue, 0), ["get b x1"]);
    assert!(taken(&queue, 0).is_empty() && queue.retires(0) && !queue.connects(0));
    assert!(matches!(get(&queue, "c").unwrap().1, Next::Start(0)));
    queue.left(0);
    assert!(matches!(get(&queue, "d").unwrap().1, Next::Start(0)));
}

#[tokio::test(start_paused = true)]
async fn what_waits_without_a_connection_is_told_so_unless_another_worker_has_one() {
    let queue = queue(2, 1, 100);
    let taken_by = |number| queue.take_unservable(number).map(|work| work.len());
    let _both = ["a", "b"].map(|url| get(&queue, url).unwrap());
    // Two connect. The one that fails first leaves it to the other.
    assert_eq!((taken_by(0), taken_by(1)), (None, Some(2)));
    let _more = ["c", "d"].map(|url| get(&queue, url).unwrap());
    assert_eq!(taken(&queue, 1).len(), 1);
    assert_eq!(taken_by(0), None);
}

#[tokio::test(start_paused = true)]
async fn a_closed_queue_serves_what_it_admitted_and_has_ended_when_its_last_worker_has() {
    let queue = queue(2, 1, 100);
    let _both = ["a", "b"].map(|url| get(&queue, url).unwrap());
    queue.close();
    assert!(get(&queue, "c").is_err());
    // Neither has a connection yet. One serves, and the other finds nothing to do.
    assert!(queue.connects(0) && queue.connects(1));
    assert_eq!((taken(&queue, 0).len(), taken(&queue, 0).len()), (1, 1));
    let mut ended = std::pin::pin!(queue.ended());
    assert!((&mut ended).now_or_never().is_none());
    assert!(!queue.connects(1));
    assert!((&mut ended).now_or_never().is_none(), "the other one is there");
    queue.left(0);
    assert!(ended.now_or_never().is_some());
    queue.ended().await;
}

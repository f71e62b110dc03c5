//! The tier's rules, with queries whose answers the tests give.

use tokio::sync::oneshot;

use super::*;
use crate::cache::Ticket as Text;

const URL: &str = "https://client.example/metadata.json";
const MINUTE: Duration = Duration::from_secs(60);

fn near(ttl: Duration) -> Arc<Near> {
    Arc::new(Near::new(Settings { ttl, bytes: 1 << 20 }))
}

fn entry(metadata: &str, fresh_for: Duration) -> Entry {
    let ticket = Text::from(Ticket::new(1_000_000, 7).unwrap().to_string());
    Entry { metadata: metadata.to_owned(), expires_at: SystemTime::UNIX_EPOCH, fresh_for, ticket }
}

/// A query under way: how to answer it, and what the get will return.
struct Asked {
    answer: oneshot::Sender<Result<Lookup, Error>>,
    get: tokio::task::JoinHandle<Result<Lookup, Error>>,
}

impl Asked {
    async fn answered(self, answer: Result<Lookup, Error>) -> Result<Lookup, Error> {
        self.answer.send(answer).unwrap();
        self.get.await.unwrap()
    }

    async fn hits(self, metadata: &str) {
        let lookup = Ok(Lookup::Hit(entry(metadata, MINUTE)));
        assert_eq!(self.answered(lookup.clone()).await, lookup);
    }
}

/// Begins a get that misses the tier; returns once its query is under way.
async fn ask(near: &Arc<Near>) -> Asked {
    let (answer, receiver) = oneshot::channel();
    let (begun, under_way) = oneshot::channel();
    let near = near.clone();
    let get = tokio::spawn(async move {
        let query = async move {
            begun.send(()).unwrap();
            receiver.await.unwrap()
        };
        near.ask(URL, || query.boxed()).await
    });
    under_way.await.unwrap();
    Asked { answer, get }
}

/// Begins a get that has to share a query under way.
fn share(near: &Arc<Near>) -> tokio::task::JoinHandle<Result<Lookup, Error>> {
    let near = near.clone();
    tokio::spawn(async move { near.ask(URL, || panic!("a second query")).await })
}

fn kept(near: &Near, now: Moment) -> Option<String> {
    near.hit(URL, now).map(|entry| entry.metadata)
}

#[tokio::test]
async fn a_document_is_kept_for_the_time_to_live_and_not_past_its_expiry() {
    for (ttl, fresh_for, kept_for) in [(MINUTE, MINUTE * 2, MINUTE), (MINUTE * 2, MINUTE, MINUTE)] {
        let near = near(ttl);
        let before = Moment::now();
        let asked = ask(&near).await;
        let sent = Moment::now();
        asked.answered(Ok(Lookup::Hit(entry("{}", fresh_for)))).await.unwrap();
        let answered = Moment::now();
        assert!(near.hit(URL, before.after(kept_for - Duration::from_nanos(1))).is_some());
        assert!(near.hit(URL, sent.after(kept_for)).is_none(), "time counts from before the query");
        let later = near.hit(URL, answered.after(Duration::from_secs(30))).unwrap();
        assert!(later.fresh_for <= fresh_for - Duration::from_secs(30), "{:?}", later.fresh_for);
    }
}

#[tokio::test]
async fn a_hit_has_a_ticket_of_its_own_moment() {
    let near = near(MINUTE);
    ask(&near).await.hits("{}").await;
    let later = near.hit(URL, Moment::now().after(Duration::from_secs(30))).unwrap();
    let ticket = Ticket::parse(later.ticket.as_str()).unwrap();
    let passed = Duration::from_micros((ticket.read_at() - 1_000_000).unsigned_abs());
    assert!(passed > Duration::from_secs(29), "{passed:?}");
}

#[tokio::test]
async fn what_a_write_overtook_is_not_kept() {
    for all in [false, true] {
        let near = near(MINUTE);
        let asked = ask(&near).await;
        near.writing((!all).then_some(URL)).ended(&Ok(()));
        asked.hits("old").await;
        assert_eq!(kept(&near, Moment::now()), None);
        ask(&near).await.hits("new").await;
        assert_eq!(kept(&near, Moment::now()).as_deref(), Some("new"));
    }
}

#[tokio::test]
async fn a_get_after_a_write_does_not_share_a_query_from_before() {
    for all in [false, true] {
        let near = near(MINUTE);
        let old = ask(&near).await;
        near.writing((!all).then_some(URL)).ended(&Ok(()));
        let new = ask(&near).await;
        let shared = share(&near);
        new.hits("new").await;
        old.hits("old").await;
        assert_eq!(shared.await.unwrap(), Ok(Lookup::Hit(entry("new", MINUTE))));
        assert_eq!(kept(&near, Moment::now()).as_deref(), Some("new"));
    }
}

#[tokio::test]
async fn a_write_makes_what_was_kept_forgotten_however_it_ends() {
    let outcomes =
        [Some(Ok(())), Some(Err(Error::TimedOut)), Some(Err(Error::InvalidUrl(String::new()))), None];
    for (outcome, all) in outcomes.iter().flat_map(|outcome| [(outcome, false), (outcome, true)]) {
        let near = near(MINUTE);
        ask(&near).await.hits("old").await;
        assert_eq!(kept(&near, Moment::now()).as_deref(), Some("old"));
        let writing = near.writing((!all).then_some(URL));
        match outcome {
            Some(outcome) => writing.ended(outcome),
            None => drop(writing),
        }
        assert_eq!(kept(&near, Moment::now()), None, "{outcome:?}");
    }
}

#[tokio::test]
async fn after_a_write_of_unknown_outcome_the_key_is_left_to_the_database() {
    for error in [Some(Error::Unavailable), Some(Error::TimedOut), Some(Error::Storage), None] {
        let near = near(MINUTE);
        let writing = near.writing(Some(URL));
        match error {
            Some(error) => writing.ended::<()>(&Err(error)),
            None => drop(writing),
        }
        // The statement may run only now, and what was read before it is old.
        ask(&near).await.hits("old").await;
        assert_eq!(kept(&near, Moment::now()), None);
    }
}

#[tokio::test]
async fn neither_misses_nor_failures_are_kept() {
    let near = near(MINUTE);
    for answer in [Ok(Lookup::Miss("ticket".into())), Err(Error::Unavailable)] {
        assert_eq!(ask(&near).await.answered(answer.clone()).await, answer);
        assert_eq!(kept(&near, Moment::now()), None);
    }
    ask(&near).await.hits("{}").await;
}

#[tokio::test]
async fn a_caller_that_gives_up_does_not_take_the_query_along() {
    let near = near(MINUTE);
    let asked = ask(&near).await;
    let shared = share(&near);
    asked.get.abort();
    assert!(asked.get.await.unwrap_err().is_cancelled());
    asked.answer.send(Ok(Lookup::Hit(entry("{}", MINUTE)))).unwrap();
    assert_eq!(shared.await.unwrap(), Ok(Lookup::Hit(entry("{}", MINUTE))));
    assert_eq!(kept(&near, Moment::now()).as_deref(), Some("{}"));
}

#[tokio::test]
async fn a_query_older_than_the_time_to_live_is_not_shared() {
    let near = near(Duration::ZERO);
    let (old, new) = (ask(&near).await, ask(&near).await);
    new.hits("new").await;
    old.hits("old").await;
}

#[tokio::test]
async fn what_is_kept_stays_under_the_bound() {
    let near = near(MINUTE);
    let metadata = "x".repeat(1_000);
    for number in 0..5_000 {
        let url = format!("{URL}?{number}");
        let answer = Lookup::Hit(entry(&metadata, MINUTE));
        near.ask(&url, || async { Ok(answer) }.boxed()).await.unwrap();
        assert!(near.bytes() <= 1 << 20);
    }
    assert!(near.bytes() > 1 << 19, "{} bytes", near.bytes());
    assert!(near.stripes.iter().all(|stripe| stripe.lock().flights.is_empty()));
}

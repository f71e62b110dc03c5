//! The component itself, written in the memory layout of the calling convention (the component model's
//! Canonical ABI), because generated bindings would keep it from lying.
//!
//! If a field is wider than its discriminant, the host reads the lowest byte.
//!
//! The URL of a get says what to do: a word with its arguments, and on the next line the text of a statement.
//! Any other URL is a polite miss. The component reports what it tried with `sql` in a hit's metadata.
//!
//! It frees nothing, because its instances are short-lived.

#![allow(unsafe_code, reason = "raw memory is how a component talks to its host")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A string or a list.
#[repr(C)]
#[derive(Clone, Copy)]
struct Slice {
    start: u32,
    length: u32,
}

impl Slice {
    fn of<T>(items: &'static [T]) -> Self {
        Self { start: items.as_ptr() as u32, length: items.len() as u32 }
    }

    fn text(text: impl Into<Vec<u8>>) -> Self {
        Self::of(text.into().leak())
    }

    /// The same letter this many times.
    fn letters(count: &str, letter: u8) -> Self {
        Self::text(vec![letter; number(count)])
    }
}

/// The answer to a get: `result<lookup, error>` of the WIT.
#[repr(C)]
struct Lookup {
    failed: u64,
    case: u64,
    /// The metadata of a hit, the ticket of a miss.
    text: Slice,
    expires_at: i64,
    fresh_for: u64,
    ticket: Slice,
}

/// The same if it is an error, and the answers of the other functions.
#[repr(C)]
struct Short {
    failed: u32,
    padding: u32,
    case: u32,
    text: Slice,
}

const TICKET: &[u8] = b"0006000000000000-0006000000000000";

fn give<T>(answer: T) -> *const T {
    Box::leak(Box::new(answer))
}

fn hit(metadata: Slice) -> Lookup {
    let (expires_at, fresh_for, ticket) = (1_800_000_000, 1_000, Slice::of(TICKET));
    Lookup { failed: 0, case: 0, text: metadata, expires_at, fresh_for, ticket }
}

fn miss() -> Lookup {
    Lookup { case: 1, ..hit(Slice::of(TICKET)) }
}

/// What another call may have told the instance.
static REMEMBERED: AtomicU32 = AtomicU32::new(0);

/// What `cabi_realloc` does when the host asks for memory. 0 is correct.
static REALLOC: AtomicU32 = AtomicU32::new(0);

#[unsafe(export_name = "cimd:cache/cache@0.1.0#get")]
unsafe extern "C" fn get(url: *const u8, length: usize) -> *const Lookup {
    // Safety: the host has just written it there.
    let url = unsafe { std::slice::from_raw_parts(url, length) };
    let url = std::str::from_utf8(url).unwrap_or_default();
    let (order, sql) = url.split_once('\n').unwrap_or((url, ""));
    let order: Vec<&str> = order.split(' ').collect();
    give(match order[..] {
        // With parameters of these kinds.
        ["query", kinds] => report(query(sql, &kinds.bytes().map(Value::of_kind).collect::<Vec<_>>())),
        // With this many parameters, all the same text of this many bytes.
        ["flood", count, bytes] => {
            let text = Value { case: 3, content: Slice::letters(bytes, b'x') };
            report(query(sql, &vec![text; number(count)]))
        }
        ["query-for-ever"] => loop {
            let _ = query(sql, &[Value::of_kind(b't')]);
        },
        ["loop"] => loop {
            black_box(());
        },
        ["fill-memory"] => loop {
            black_box(vec![1_u8; 1 << 16].leak());
        },
        // Asks for one page after another until it gets none.
        ["grow-memory"] => {
            while core::arch::wasm32::memory_grow::<0>(1) != usize::MAX {}
            hit(Slice::text((core::arch::wasm32::memory_size::<0>() * 65_536).to_string()))
        }
        ["recurse"] => hit(Slice::text(recurse(u64::MAX, &|| ()).to_string())),
        ["recurse-and-query"] => {
            let query = || {
                let _ = query(sql, &[Value::of_kind(b't')]);
            };
            hit(Slice::text(recurse(u64::MAX, &query).to_string()))
        }
        ["trap"] => core::arch::wasm32::unreachable(),
        ["many", _] => hit(Slice::text(order.join(" "))),
        ["query-and-keep-the-host", how] => {
            REALLOC.store(number(how) as u32, Relaxed);
            report(query(sql, &[Value::of_kind(b't')]))
        }
        ["remember", secret] => {
            REMEMBERED.store(number(secret) as u32, Relaxed);
            miss()
        }
        ["recall"] => hit(Slice::text(REMEMBERED.load(Relaxed).to_string())),
        ["hit", metadata_bytes, expires_at, fresh_for, ticket_bytes] => Lookup {
            expires_at: expires_at.parse().unwrap_or_default(),
            fresh_for: fresh_for.parse().unwrap_or_default(),
            ticket: Slice::letters(ticket_bytes, b'x'),
            ..hit(Slice::letters(metadata_bytes, b'x'))
        },
        ["miss", ticket_bytes, letter] => {
            Lookup { text: Slice::letters(ticket_bytes, number(letter) as u8), ..miss() }
        }
        ["refuse", text_bytes, letter] => {
            let text = Slice::letters(text_bytes, number(letter) as u8);
            return give(Short { failed: 1, padding: 0, case: 0, text }).cast();
        }
        ["text-outside"] => hit(Slice { start: u32::MAX - 8, length: 8 }),
        ["text-without-end"] => hit(Slice { start: 0, length: u32::MAX }),
        ["no-such-case"] => Lookup { case: 9, ..miss() },
        ["no-such-result"] => Lookup { failed: 9, ..miss() },
        ["answer-outside"] => return (u32::MAX - 7) as *const Lookup,
        ["answer-unaligned"] => return give(miss()).cast::<u8>().wrapping_add(1).cast(),
        _ => miss(),
    })
}

/// Many answers, each as a get would give it, unless the first URL says otherwise.
#[unsafe(export_name = "cimd:cache/cache@0.1.0#get-many")]
unsafe extern "C" fn get_many(urls: *const Slice, count: usize) -> *const Slice {
    // Safety: the host has just written them there, and the answer of a get lives for ever.
    let urls = unsafe { std::slice::from_raw_parts(urls, count) };
    let answer = |url: &Slice| unsafe { std::ptr::read(get(url.start as *const u8, url.length as usize)) };
    let mut answers: Vec<Lookup> = urls.iter().map(answer).collect();
    let first = unsafe { std::slice::from_raw_parts(urls[0].start as *const u8, urls[0].length as usize) };
    match first {
        b"many too-few" => answers.truncate(count - 1),
        b"many too-many" => answers.push(miss()),
        b"many none" => answers.clear(),
        b"many a-million" => answers.resize_with(1_000_000, miss),
        b"many outside" => return give(Slice { start: u32::MAX - 8, length: count as u32 }),
        b"many without-end" => return give(Slice { start: 0, length: u32::MAX }),
        _ => {}
    }
    give(Slice::of(answers.leak()))
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_default()
}

/// Too deep for any stack. Not a sum, or the compiler would make it a loop.
#[inline(never)]
fn recurse(depth: u64, now_and_then: &dyn Fn()) -> u64 {
    if depth.is_multiple_of(64) {
        now_and_then();
    }
    if depth == 0 { 1 } else { recurse(depth - 1, now_and_then).rotate_left(1) ^ depth.wrapping_mul(31) }
}

// The other functions return what their types or the rules do not allow.

/// A case that `put-outcome` does not have.
#[unsafe(export_name = "cimd:cache/cache@0.1.0#put")]
extern "C" fn put(_: u32, _: u32, _: u32, _: u32, _: u32, _: u64, _: u32, _: u32, _: u32) -> *const [u32; 4] {
    give([0, 9, 0, 0])
}

/// A case that `error` does not have.
#[unsafe(export_name = "cimd:cache/cache@0.1.0#delete")]
extern "C" fn delete(_: u32, _: u32) -> *const [u32; 4] {
    give([1, 99, 0, 0])
}

/// Neither success nor error.
#[unsafe(export_name = "cimd:cache/cache@0.1.0#purge")]
extern "C" fn purge() -> *const [u32; 4] {
    give([9, 0, 0, 0])
}

/// More rows than any sweep may remove, and always more to come.
#[unsafe(export_name = "cimd:cache/maintenance@0.1.0#sweep")]
extern "C" fn sweep(_: u32) -> *const [u32; 4] {
    give([0, u32::MAX, 1, 0])
}

/// A parameter.
#[repr(C)]
#[derive(Clone, Copy)]
struct Value {
    case: u64,
    content: Slice,
}

impl Value {
    fn of_kind(kind: u8) -> Self {
        let (case, content) = match kind {
            b'n' => (0, Slice { start: 0, length: 0 }),
            b'b' => (1, Slice { start: 1, length: 0 }),
            b'i' => (2, Slice { start: 1, length: 0 }),
            b't' => (3, Slice::of(b"{}")),
            b'y' => (4, Slice::of(b"{}")),
            // A text that is not UTF-8.
            b'!' => (3, Slice::of(b"\xff\xfe")),
            // A case that does not exist.
            _ => (9, Slice { start: 0, length: 0 }),
        };
        Self { case, content }
    }
}

#[link(wasm_import_module = "cimd:cache/sql@0.1.0")]
unsafe extern "C" {
    #[link_name = "query"]
    fn sql_query(
        statement: *const u8,
        statement_length: usize,
        parameters: *const Value,
        count: usize,
        answer: *mut [u32; 4],
    );
}

fn query(sql: &str, parameters: &[Value]) -> Result<usize, u32> {
    let mut answer = [0; 4];
    // Safety: everything lives until the call returns.
    unsafe { sql_query(sql.as_ptr(), sql.len(), parameters.as_ptr(), parameters.len(), &mut answer) };
    match answer {
        [0, _, rows, _] => Ok(rows as usize),
        [_, error, ..] => Err(error),
    }
}

/// What `sql` answered, in a hit.
fn report(answer: Result<usize, u32>) -> Lookup {
    let errors = ["not-configured", "not-allowed", "unavailable", "timed-out", "too-large", "database"];
    hit(Slice::text(match answer {
        Ok(rows) => format!("rows: {rows}"),
        Err(error) => errors.get(error as usize).unwrap_or(&"?").to_string(),
    }))
}

/// Memory that the host asks for, to write an argument or a result into.
#[unsafe(export_name = "cabi_realloc")]
extern "C" fn cabi_realloc(_: *mut u8, _: usize, _: usize, length: usize) -> *mut u8 {
    match REALLOC.load(Relaxed) {
        0 => vec![0_u64; length.div_ceil(8)].leak().as_mut_ptr().cast(),
        1 => loop {
            black_box(());
        },
        _ => (u32::MAX - 7) as *mut u8,
    }
}

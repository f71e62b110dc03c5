//! What callers do and how time passes, by a seed.

use cimd_cache_guest::ticket::Ticket as GuestTicket;
use fastrand::Rng;

use crate::calls::Asked;
use crate::history::{Between, Expiry, Micros, Position, Request, Ticket};

const MILLI: Micros = 1_000;
const SECOND: Micros = 1_000_000;
const TEN_YEARS: i64 = 315_576_000;

/// When histories begin.
pub const START: Micros = 1_795_465_560 * SECOND;

/// The choices of one history. What is likely differs from seed to seed: some have one key and one caller at
/// a time, some have many at once; in most the clock never steps back.
pub(crate) struct Choices {
    pub(crate) rng: Rng,
    keys: usize,
    /// How many puts in a hundred present the newest ticket, and how many an older one. The others have none,
    /// or a wrong one.
    newest_ticket: u32,
    older_ticket: u32,
    tickets: Vec<Known>,
    documents: u64,
    /// Times at which something changes: a ticket runs out, a document expires, a row may be swept.
    moments: Vec<Micros>,
    /// After a step back, when the rows of the table are less than a minute in the future.
    future: Vec<Micros>,
}

/// The clocks of the database. Most histories have one. In a distributed engine, reads of a key go by the
/// clock of its node, and writes by another. A get-many has one clock for all its keys, here that of the
/// first.
pub(crate) struct Clocks {
    /// The most by which two differ. The database knows it.
    pub(crate) tolerance: Micros,
    /// How far the clock of each key is ahead of the clock of writes.
    ahead: [Micros; KEYS],
}

impl Clocks {
    pub(crate) fn new(choices: &mut Choices) -> Self {
        let tolerance =
            if choices.percent(75) { 0 } else { *choices.one_of(&[1, 5 * MILLI, SECOND, 10 * SECOND]) };
        let mut ahead = || *choices.one_of(&[-tolerance, 0, tolerance, tolerance]);
        Self { tolerance, ahead: std::array::from_fn(|_| ahead()) }
    }

    /// What the clock of a key shows when the clock of writes shows `now`.
    pub(crate) fn at_key(&self, key: usize, now: Micros) -> Micros {
        now + self.ahead[key]
    }
}

/// The most keys that a history has.
const KEYS: usize = 3;

/// A ticket that a get gave.
#[derive(Clone, Copy)]
struct Known {
    ticket: GuestTicket,
    /// When the read took place by the clock of writes.
    read: Between,
    read_began: Position,
    read_ended: Position,
}

impl Choices {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let keys = rng.usize(1..=KEYS);
        let newest_ticket = rng.u32(20..70);
        Self {
            keys,
            newest_ticket,
            older_ticket: 85 - newest_ticket,
            rng,
            tickets: Vec::new(),
            documents: 0,
            moments: Vec::new(),
            future: Vec::new(),
        }
    }

    /// True this many times in a hundred.
    pub(crate) fn percent(&mut self, chance: u32) -> bool {
        self.rng.u32(0..100) < chance
    }

    /// A ticket may be presented as soon as its get has ended.
    pub(crate) fn learn(
        &mut self,
        ticket: GuestTicket,
        read: Between,
        (read_began, read_ended): (Position, Position),
    ) {
        self.tickets.push(Known { ticket, read, read_began, read_ended });
        self.moments.extend([600, 660].map(|seconds| ticket.read_at() + seconds * SECOND));
    }

    /// A statement that has begun may run for a minute.
    pub(crate) fn statement_began(&mut self, now: Micros) {
        self.moments.push(now + 60 * SECOND);
    }

    /// After a step back, the rows of the table are from the future for some time.
    pub(crate) fn stepped_back(&mut self, peak: Micros) {
        let fetched = self.tickets.iter().rev().take(4).map(|known| known.ticket.read_at());
        self.future = fetched.chain([peak]).map(|at| at - 60 * SECOND).collect();
    }

    pub(crate) fn request(&mut self, now: Micros) -> Asked {
        let key = self.rng.usize(0..self.keys);
        let request = match self.rng.u32(0..100) {
            0..32 => return self.get(key),
            32..74 => return self.put(key, now),
            74..84 => Request::Delete { key },
            84..89 => Request::Purge,
            _ => Request::Sweep { limit: *self.one_of(&[0, 1, 2, 2, 1_000, 1_000, u32::MAX]) },
        };
        Asked::new(request)
    }

    /// A get, or often a get-many of some keys, some of which are the same.
    fn get(&mut self, key: usize) -> Asked {
        let also = self.percent(33).then(|| {
            let others = self.rng.usize(0..4);
            (0..others).map(|_| self.rng.usize(0..self.keys)).collect()
        });
        Asked { also, ..Asked::new(Request::Get { key }) }
    }

    fn put(&mut self, key: usize, now: Micros) -> Asked {
        let (ticket, text) = self.ticket();
        let counted_from = match ticket {
            Some(Ticket::Of { at, .. }) => at,
            Some(Ticket::Garbage) | None => now,
        };
        let expiry = self.expiry(now);
        self.moments.push(match expiry {
            Expiry::At(at) => at.saturating_mul(SECOND),
            Expiry::After(seconds) => {
                counted_from.saturating_add(seconds.cast_signed().saturating_mul(SECOND))
            }
        });
        self.documents += 1;
        let request = Request::Put { key, document: self.documents, expiry, ticket };
        Asked { ticket: text, ..Asked::new(request) }
    }

    fn ticket(&mut self) -> (Option<Ticket>, Option<String>) {
        let Some(newest) = self.tickets.last().copied() else { return (None, None) };
        let dice = self.rng.u32(0..100);
        let mut known = newest;
        if dice >= self.newest_ticket {
            // Most old tickets are from one of the last few gets: of a delayed put, a retry, another node.
            let back = if self.percent(80) { 4.min(self.tickets.len()) } else { self.tickets.len() };
            known = self.tickets[self.tickets.len() - 1 - self.rng.usize(0..back)];
        }
        let given = dice.checked_sub(self.newest_ticket + self.older_ticket);
        let at = match given {
            None => known.ticket.read_at(),
            Some(0..9) => return (None, None),
            Some(9..11) => return (Some(Ticket::Garbage), Some(self.garbage(known.ticket))),
            Some(_) => {
                const BY: [Micros; 8] = [
                    1,
                    SECOND,
                    30 * SECOND,
                    60 * SECOND,
                    61 * SECOND,
                    599 * SECOND,
                    600 * SECOND,
                    3_600 * SECOND,
                ];
                let by = *self.one_of(&BY);
                known.ticket.read_at() + if self.rng.bool() { by } else { -by }
            }
        };
        let ticket = GuestTicket::new(at, known.ticket.purged_at());
        let Known { read, read_began, read_ended, .. } = known;
        // A made-up ticket does not say when its read took place.
        let latest = if at == known.ticket.read_at() { read.latest } else { at };
        (Some(Ticket::Of { at, latest, read_began, read_ended }), ticket.map(|ticket| ticket.to_string()))
    }

    /// A text that is nearly a ticket.
    fn garbage(&mut self, ticket: GuestTicket) -> String {
        let (text, seconds) = (ticket.to_string(), ticket.read_at() / SECOND);
        match self.rng.u32(0..6) {
            0 => String::new(),
            1 => seconds.to_string(),
            2 => text.to_uppercase(),
            3 => text.trim_start_matches('0').to_owned(),
            4 => format!(" {text}"),
            _ => text.replacen('0', "+", 1),
        }
    }

    fn expiry(&mut self, now: Micros) -> Expiry {
        const LIFETIMES: [i64; 15] =
            [0, 1, 1, 5, 30, 60, 300, 600, 660, 661, 700, 3_600, 3_600, 86_400, 86_400 * 30];
        let seconds = now / SECOND;
        match self.rng.u32(0..40) {
            0..30 => Expiry::After(self.one_of(&LIFETIMES).unsigned_abs()),
            30..36 => Expiry::At(seconds + *self.one_of(&[-3_600, -1, 0, 1, 60, 661, 3_600])),
            36..38 => Expiry::After((TEN_YEARS + *self.one_of(&[-1, 0, 0, 1, 300, 700])).unsigned_abs()),
            38 => Expiry::At(seconds + TEN_YEARS + *self.one_of(&[-1, 0, 1, 2, 3_600])),
            _ => Expiry::At(*self.one_of(&[-1, 0, 253_402_300_799, 253_402_300_800, i64::MAX])),
        }
    }

    /// What the clock shows next. Much happens within a microsecond, and at or next to the moments when an
    /// answer changes.
    pub(crate) fn next_time(&mut self, now: Micros) -> Micros {
        let later = match self.rng.u32(0..100) {
            0..35 => self.rng.i64(0..=2),
            35..45 => self.rng.i64(0..5 * MILLI),
            45..55 => self.rng.i64(0..2 * SECOND),
            55..62 => self.rng.i64(0..70) * SECOND,
            62..70 if !self.future.is_empty() => {
                let moments = within_a_day(&self.future, now);
                self.until_one_of(&moments, now)
            }
            _ => {
                let from = if self.percent(70) { self.moments.len().saturating_sub(12) } else { 0 };
                let moments = within_a_day(&self.moments[from..], now);
                self.until_one_of(&moments, now)
            }
        };
        now + later.max(0)
    }

    /// How long it is until one of these moments, or until just before or after it.
    fn until_one_of(&mut self, moments: &[Micros], now: Micros) -> Micros {
        if moments.is_empty() { 1 } else { *self.one_of(moments) + self.rng.i64(-1..=1) - now }
    }

    /// How far the clock is set back by a failover. Often by about a minute, which puts some rows in the
    /// future and not others.
    pub(crate) fn step_back(&mut self) -> Micros {
        if self.percent(50) {
            return 60 * SECOND + self.rng.i64(-3..=10);
        }
        let by = *self.one_of(&[1, 30, 59, 60, 61, 90, 300, 601, 1_200, 7_200, 86_400]);
        by * SECOND + self.rng.i64(-1..=1)
    }

    pub(crate) fn one_of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.rng.usize(0..items.len())]
    }
}

fn within_a_day(moments: &[Micros], now: Micros) -> Vec<Micros> {
    moments.iter().filter(|&&at| at > now && at < now + 86_400 * SECOND).copied().collect()
}

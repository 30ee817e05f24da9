//! What is to go: a summary of fixed size of any number of entries, the cut through it, and each entry's verdict.
//!
//! Pure. Entries count as used at the same time within the same ten minutes, and what was last used more than a week ago
//! within the same thousandth of its age ([`slot`]); of such equals larger ones go first, by powers of two ([`class`]), and of
//! those of one size whichever are listed first. So a table of time by size tells how far to go, whatever the number of entries.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::domain::entries::Entry;

/// Seconds that count as the same time.
const TEN_MINUTES: u64 = 600;
/// So many slots are ten minutes each; from there each is a thousandth, rather, of its age.
const EVEN: u64 = 1024;
/// Sizes of 0, 1, 2 to 3, 4 to 7 bytes and so on.
const CLASSES: usize = 65;
/// For this long after it became a leftover, an entry is looked at for being one: later it is old like any other.
const RECENT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Where to stop, in bytes of all entries that are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// Above this something goes.
    pub high: u64,
    /// So much may stay then.
    pub low: u64,
}

/// Which entries are looked at for being what a Store that broke has left: that takes a request for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Leftovers {
    /// None.
    None,
    /// Those that became old enough for it in the last seven days.
    #[default]
    Recent,
    /// All without a manifest.
    All,
}

/// What is to go, in general.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// What was last used longer ago goes.
    pub max_age: Option<Duration>,
    /// What was used since stays, whatever else is said.
    pub min_age: Duration,
    /// How much may stay.
    pub marks: Option<Marks>,
    /// So old are leftovers that nobody is still working on.
    pub leftover_age: Duration,
    /// Where leftovers are looked for.
    pub leftovers: Leftovers,
}

/// What is to become of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It stays.
    Keep,
    /// It goes: not used for too long.
    Expired,
    /// It goes: there is too much, and others were used later.
    Surplus,
    /// It goes: sidecars of nothing.
    Orphan,
    /// It goes if its files say that they came as a unit, which it is not.
    Suspect,
}

/// How many ten minutes, or thousandths of its age, ago something was.
pub fn slot(used: SystemTime, now: SystemTime) -> u64 {
    let tens = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / TEN_MINUTES;
    let ago = tens(now).saturating_sub(tens(used));
    if ago < EVEN {
        return ago;
    }
    // The ten bits behind the first tell the place within the octave.
    let octave = u64::from(ago.ilog2() - EVEN.ilog2());
    EVEN * (octave + 1) + ((ago >> octave) - EVEN)
}

/// Which power of two a size is of; 0 is by itself.
pub const fn class(bytes: u64) -> usize {
    (u64::BITS - bytes.leading_zeros()) as usize
}

fn ago(used: SystemTime, now: SystemTime) -> Duration {
    // What is used in the future is used now.
    now.duration_since(used).unwrap_or_default()
}

impl Rules {
    /// Of what can be said without knowing of others; `None` where that decides.
    fn alone(&self, entry: &Entry, now: SystemTime) -> Option<Verdict> {
        let age = ago(entry.used, now);
        if entry.used > now || age < self.min_age {
            Some(Verdict::Keep)
        } else if self.max_age.is_some_and(|most| age > most) {
            Some(Verdict::Expired)
        } else if !entry.has_body && age >= self.leftover_age {
            Some(Verdict::Orphan)
        } else {
            None
        }
    }

    /// Whether an entry may be what a Store that broke has left.
    fn suspects(&self, entry: &Entry, now: SystemTime) -> bool {
        let age = ago(entry.used, now);
        let most = match self.leftovers {
            Leftovers::None => return false,
            Leftovers::Recent => self.leftover_age.saturating_add(RECENT),
            Leftovers::All => Duration::MAX,
        };
        entry.within.is_some() && entry.head.is_none() && age >= self.leftover_age && age < most
    }
}

/// How far to go: everything older than a slot, of that slot what is larger, and of that size so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    slot: u64,
    class: usize,
    left: u64,
}

impl Cut {
    /// Whatever may go.
    const EVERYTHING: Self = Self { slot: 0, class: 0, left: u64::MAX };

    /// Whether it takes the next entry.
    fn takes(&mut self, entry: &Entry, now: SystemTime) -> bool {
        let (slot, class) = (slot(entry.used, now), class(entry.bytes));
        if (slot, class) != (self.slot, self.class) {
            return (slot, class) > (self.slot, self.class);
        }
        let takes = self.left > 0;
        self.left = self.left.saturating_sub(entry.bytes);
        takes
    }
}

/// What one pass over the entries has seen.
#[derive(Debug)]
pub struct Survey {
    now: SystemTime,
    rules: Rules,
    /// Bytes by slot, then by class, of what may go but need not.
    table: Vec<Option<Box<[u64; CLASSES]>>>,
    /// Bytes of everything.
    total: u64,
    /// Bytes of what goes however much there is.
    sure: u64,
    /// Entries that go, or may, however much there is.
    work: u64,
}

impl Survey {
    /// Of nothing yet.
    pub const fn new(rules: Rules, now: SystemTime) -> Self {
        Self { now, rules, table: Vec::new(), total: 0, sure: 0, work: 0 }
    }

    /// Adds an entry.
    pub fn add(&mut self, entry: &Entry) {
        self.total = self.total.saturating_add(entry.bytes);
        match self.rules.alone(entry, self.now) {
            Some(Verdict::Keep) => return,
            Some(_) => {
                self.sure = self.sure.saturating_add(entry.bytes);
                self.work += 1;
                return;
            }
            None => self.work += u64::from(self.rules.suspects(entry, self.now)),
        }
        let at = usize::try_from(slot(entry.used, self.now)).unwrap_or(usize::MAX);
        if self.table.len() <= at {
            self.table.resize_with(at + 1, || None);
        }
        let row = self.table.get_mut(at).map(|row| row.get_or_insert_with(|| Box::new([0; CLASSES])));
        if let Some(cell) = row.and_then(|row| row.get_mut(class(entry.bytes))) {
            *cell = cell.saturating_add(entry.bytes);
        }
    }

    /// Bytes of everything that was seen.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// What is to go; `None` where nothing is.
    pub fn plan(&self) -> Option<Plan> {
        let rest = self.total - self.sure;
        let excess = match self.rules.marks {
            Some(marks) if rest > marks.high => rest.saturating_sub(marks.low),
            Some(_) | None => 0,
        };
        if self.work == 0 && excess == 0 {
            return None;
        }
        let cut = (excess > 0).then(|| self.cut(excess));
        let bytes = self.sure.saturating_add(excess);
        Some(Plan { now: self.now, rules: self.rules.clone(), cut, bytes })
    }

    /// How far to go for so many bytes; everything, where there are not as many.
    fn cut(&self, excess: u64) -> Cut {
        let mut left = excess;
        for (slot, row) in self.table.iter().enumerate().rev() {
            for (class, bytes) in row.iter().flat_map(|row| row.iter().enumerate().rev()) {
                if *bytes >= left {
                    return Cut { slot: slot as u64, class, left };
                }
                left -= bytes;
            }
        }
        Cut::EVERYTHING
    }
}

/// What goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    now: SystemTime,
    rules: Rules,
    cut: Option<Cut>,
    bytes: u64,
}

impl Plan {
    /// A plan that needs no survey, as there are no marks.
    pub const fn unmarked(rules: Rules, now: SystemTime) -> Self {
        Self { now, rules, cut: None, bytes: 0 }
    }

    /// Whether there is too much.
    pub const fn is_cut(&self) -> bool {
        self.cut.is_some()
    }

    /// Whether as much may go as should.
    pub fn is_enough(&self) -> bool {
        self.cut != Some(Cut::EVERYTHING)
    }

    /// How many bytes are to go.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is to become of the next entry. What was used since the plan stays. To be asked once for each entry, in the order in
    /// which they were seen.
    pub fn judge(&mut self, entry: &Entry) -> Verdict {
        if let Some(verdict) = self.rules.alone(entry, self.now) {
            return verdict;
        }
        if self.cut.as_mut().is_some_and(|cut| cut.takes(entry, self.now)) {
            return Verdict::Surplus;
        }
        if self.rules.suspects(entry, self.now) { Verdict::Suspect } else { Verdict::Keep }
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Leftovers, Marks, Rules, Survey, Verdict, class, slot};
    use crate::store::Prefix;
    use proptest::prelude::*;
    use std::time::{Duration, SystemTime};

    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_123)
    }

    fn back(seconds: u64) -> SystemTime {
        now() - Duration::from_secs(seconds)
    }

    fn entry(name: usize, seconds: u64, bytes: u64, shape: u8) -> Entry {
        Entry {
            name: format!("{name:04}"),
            within: (shape > 0).then(Prefix::root),
            head: None,
            keys: Vec::new(),
            has_body: shape != 2,
            objects: 1,
            bytes,
            used: back(seconds),
        }
    }

    fn rules(marks: Option<Marks>) -> Rules {
        Rules {
            max_age: None,
            min_age: Duration::ZERO,
            marks,
            leftover_age: Duration::from_secs(DAY),
            leftovers: Leftovers::Recent,
        }
    }

    fn judged(rules: &Rules, entries: &[Entry]) -> Vec<Verdict> {
        let mut survey = Survey::new(rules.clone(), now());
        entries.iter().for_each(|entry| survey.add(entry));
        let Some(mut plan) = survey.plan() else { return vec![Verdict::Keep; entries.len()] };
        entries.iter().map(|entry| plan.judge(entry)).collect()
    }

    /// The same, as a person would do it who has all entries on the table.
    fn reference(rules: &Rules, entries: &[Entry]) -> Vec<Verdict> {
        let age = |entry: &Entry| now().duration_since(entry.used).unwrap();
        let mut verdicts = vec![Verdict::Keep; entries.len()];
        let mut left: Vec<usize> = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            if age(entry) < rules.min_age {
                continue;
            }
            if rules.max_age.is_some_and(|most| age(entry) > most) {
                verdicts[at] = Verdict::Expired;
            } else if !entry.has_body && age(entry) >= rules.leftover_age {
                verdicts[at] = Verdict::Orphan;
            } else {
                left.push(at);
            }
        }
        let stays = |verdict: &Verdict| *verdict == Verdict::Keep;
        let bytes = |verdicts: &[Verdict]| -> u64 {
            entries.iter().zip(verdicts).filter(|(_, v)| stays(v)).map(|(entry, _)| entry.bytes).sum()
        };
        if let Some(marks) = rules.marks
            && bytes(&verdicts) > marks.high
        {
            let rank = |at: &usize| (slot(entries[*at].used, now()), class(entries[*at].bytes));
            left.sort_by_key(|at| std::cmp::Reverse(rank(at)));
            for at in left {
                if bytes(&verdicts) <= marks.low {
                    break;
                }
                verdicts[at] = Verdict::Surplus;
            }
        }
        for (entry, verdict) in entries.iter().zip(&mut verdicts) {
            let (age, young) = (age(entry), age(entry) < rules.min_age);
            let week = rules.leftover_age + Duration::from_secs(7 * DAY);
            let looked_at = match rules.leftovers {
                Leftovers::None => false,
                Leftovers::Recent => age >= rules.leftover_age && age < week,
                Leftovers::All => age >= rules.leftover_age,
            };
            if stays(verdict) && !young && looked_at && entry.within.is_some() {
                *verdict = Verdict::Suspect;
            }
        }
        verdicts
    }

    proptest! {
        #[test]
        fn exactly_those_go_that_should(
            entries in proptest::collection::vec(
                (prop_oneof![0..2 * HOUR, 0..20 * DAY, 0..4000 * DAY], prop_oneof![0_u64..9, 0_u64..5000], 0_u8..3), 0..60,
            ),
            max_age in proptest::option::of(0..3000 * DAY),
            min_age in prop_oneof![Just(0), 0..30 * DAY],
            marks in proptest::option::of((0_u64..60_000, 0_u64..60_000)),
            leftovers in prop_oneof![Just(Leftovers::None), Just(Leftovers::Recent), Just(Leftovers::All)],
        ) {
            let entries: Vec<Entry> =
                entries.into_iter().enumerate().map(|(n, (age, size, shape))| entry(n, age, size, shape)).collect();
            let rules = Rules {
                max_age: max_age.map(Duration::from_secs),
                min_age: Duration::from_secs(min_age),
                marks: marks.map(|(a, b)| Marks { high: a.max(b), low: a.min(b) }),
                leftovers,
                ..rules(None)
            };
            prop_assert_eq!(judged(&rules, &entries), reference(&rules, &entries));
        }

        #[test]
        fn slots_follow_time(a in 0_u64..u64::MAX / 4, b in 0_u64..10_000_000_000) {
            let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            let now = at(10_000_000_000);
            let (a, b) = (a % 10_000_000_000, b);
            prop_assert!((slot(at(a), now) >= slot(at(b), now)) == (a / 600 <= b / 600) || slot(at(a), now) == slot(at(b), now));
            // Equals are equals: within ten minutes, or a thousandth of the age.
            if slot(at(a), now) == slot(at(b), now) {
                let age = 10_000_000_000 - a.min(b);
                prop_assert!(a.abs_diff(b) <= 600.max(age / 1024 + 600));
            }
        }
    }

    #[test]
    fn sizes_are_powers_of_two() {
        for (bytes, expected) in [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (1 << 20, 21), (u64::MAX, 64)] {
            assert_eq!(class(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn larger_ones_go_first_among_equals_and_no_more_than_must() {
        let entries = [(5 * HOUR, 10), (2 * DAY, 100), (2 * DAY + 60, 5000), (2 * DAY + 30, 90)];
        let entries: Vec<Entry> =
            entries.iter().enumerate().map(|(n, (age, size))| entry(n, *age, *size, 0)).collect();
        let gone = |high, low| {
            let verdicts = judged(&rules(Some(Marks { high, low })), &entries);
            verdicts.iter().map(|verdict| *verdict == Verdict::Surplus).collect::<Vec<_>>()
        };
        assert_eq!(gone(5200, 0), [false; 4], "at the mark, not above it");
        assert_eq!(gone(5199, 5000), [false, false, true, false]);
        assert_eq!(gone(5199, 200), [false, false, true, false]);
        assert_eq!(gone(5199, 199), [false, true, true, false]);
        assert_eq!(gone(5199, 0), [true; 4]);
    }

    #[test]
    fn what_is_used_since_the_plan_stays() {
        let mut survey = Survey::new(rules(Some(Marks { high: 0, low: 0 })), now());
        let mut old = entry(0, DAY, 10, 0);
        survey.add(&old);
        let mut plan = survey.plan().unwrap();
        assert_eq!((plan.bytes(), plan.is_cut(), plan.is_enough()), (10, true, true));
        assert_eq!(plan.clone().judge(&old), Verdict::Surplus);
        old.used = now() + Duration::from_millis(1);
        assert_eq!(plan.judge(&old), Verdict::Keep);
    }

    #[test]
    fn the_table_is_small_whatever_the_times() {
        let mut survey = Survey::new(rules(Some(Marks { high: 0, low: 0 })), now());
        for day in 0..20_000 {
            survey.add(&entry(0, day * DAY, day, 0));
        }
        assert!(survey.table.len() < 14_000, "{}", survey.table.len());
    }
}

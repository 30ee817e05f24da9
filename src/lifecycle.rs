//! The bucket's own rules: what `larder lifecycle` prints, applies, checks and removes.
//!
//! A bucket has one text for the rules of everybody. Which of them are ours is said by their names, which hold the store's
//! place in the bucket; no other rule is ever changed, moved or laid out anew. Pure plans ([`wanted()`], [`plan()`], [`check()`])
//! and their execution over the store's door. Knows no S3, and reads no clock to decide anything.

pub use check::{Bucket, Finding, Weight, check, check_refresh};
pub use merge::{Change, Kept, Line, Plan, Unplanned, kept, plan};
pub use read::{RULES, Unreadable};
pub use render::{Format, rules};
pub use run::{Error, apply, examine, remove};
pub use wanted::{Action, Rule, Unfit, id, ours, wanted};

mod check;
mod merge;
mod read;
mod render;
mod run;
mod wanted;

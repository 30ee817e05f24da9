//! Pages as they were last sent, for as long as they are the page.
//!
//! A page's validator is a fingerprint of all that it is made of, so what is kept under it is never old: it is asked for with
//! a validator that was made of a listing just now. Where a store tells times too coarsely for that, nothing is kept. Bounded;
//! losing a page costs making it again.

use bytes::Bytes;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

/// Bytes of all pages together.
const ROOM: u64 = 8 << 20;
/// A larger page is not kept.
const LARGEST: usize = 2 << 20;
/// Pages that the table is laid out for.
const USUAL: usize = 1024;

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<String, Bytes> for Weight {
    fn weight(&self, tag: &String, text: &Bytes) -> u64 {
        (tag.len() + text.len()) as u64 + 128
    }
}

/// The pages.
#[derive(Debug)]
pub(in crate::front) struct Rendered(Option<Cache<String, Bytes, Weight>>);

impl Default for Rendered {
    fn default() -> Self {
        let mut options = OptionsBuilder::new();
        // One shard: of many, each would have room for a few large pages only.
        options.estimated_items_capacity(USUAL).weight_capacity(ROOM).shards(1);
        let made = options.build().ok().map(|options| {
            Cache::with_options(options, Weight, DefaultHashBuilder::default(), DefaultLifecycle::default())
        });
        Self(made)
    }
}

impl Rendered {
    /// The page with this validator.
    pub(super) fn get(&self, tag: &str) -> Option<Bytes> {
        self.0.as_ref()?.get(tag)
    }

    /// Keeps a page.
    pub(super) fn keep(&self, tag: &str, text: &Bytes) {
        if let Some(kept) = self.0.as_ref().filter(|_| text.len() <= LARGEST) {
            kept.insert(tag.to_owned(), text.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{LARGEST, ROOM, Rendered};

    #[test]
    fn large_pages_are_kept_and_all_together_have_their_bound() {
        let kept = Rendered::default();
        let page = Bytes::from(vec![b'x'; LARGEST]);
        kept.keep("a", &page);
        assert_eq!(kept.get("a"), Some(page.clone()));
        kept.keep("b", &Bytes::from(vec![0; LARGEST + 1]));
        assert_eq!(kept.get("b"), None);
        for n in 0..100 {
            kept.keep(&n.to_string(), &page);
        }
        let held = (0..100).filter(|n: &i32| kept.get(&n.to_string()).is_some()).count();
        assert!((1..=ROOM as usize / LARGEST).contains(&held), "{held}");
    }
}

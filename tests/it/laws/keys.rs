//! Laws of names: awkward but legal ones survive, and no two of them are one.

use larder::store::{Key, Listing, Prefix};

use super::{BTreeMap, Bytes, Place, laws};

laws!(awkward_names_survive, names_are_told_apart);

/// Legal, and each of them once trouble for somebody.
const AWKWARD: [&str; 34] = [
    "with space",
    " leading",
    "trailing ",
    "a+b",
    "%41",
    "%2F",
    "%",
    "100%",
    "a?b",
    "a#b",
    "a&b=c",
    "=",
    "~",
    "~user",
    "'quoted'",
    "\"double\"",
    "`tick`",
    "$(sub)",
    "<&>",
    "a;b",
    "a:b",
    "a|b",
    "a*b",
    "[x]",
    "{x}",
    "@",
    "!",
    "^",
    ".hidden",
    "trailing.",
    "...",
    "-dash",
    "\u{1f980}",
    "\u{65e5}\u{672c}",
];

/// Pairs that something on the way might take for one.
const PAIRS: [[&str; 2]; 8] = [
    ["caf\u{e9}", "cafe\u{301}"],
    ["Case", "case"],
    ["a%20b", "a b"],
    ["a+b", "a b"],
    ["%41", "A"],
    ["x.", "x"],
    ["x ", "x"],
    ["\u{212b}", "\u{c5}"],
];

/// As long as names may be: segments of 255 bytes, and names of 1 000 bytes in all, wide and deep.
fn long(at: &Place) -> Vec<String> {
    let left = 1000 - at.prefix().as_str().len();
    let cut = |segment: &str| {
        let text = format!("{segment}/").repeat(left / segment.len() + 1);
        text.get(..left).unwrap().trim_end_matches('/').to_owned()
    };
    vec!["y".repeat(255), "\u{e9}".repeat(127), cut(&"w".repeat(220)), cut("s")]
}

async fn survive(at: &Place, names: &[String]) {
    for name in names {
        at.put(name, &Bytes::from(name.clone())).await;
    }
    for name in names {
        assert_eq!(at.bytes(name).await, Some(Bytes::from(name.clone())), "{name:?}");
        assert!(at.store.head(&at.key(name)).await.unwrap().is_some(), "{name:?}");
        assert!(at.store.touch(&at.key(name)).await.unwrap(), "{name:?}");
    }
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(at.names().await, sorted);
    let keys: Vec<Key> = names.iter().map(|name| at.key(name)).collect();
    at.store.delete(&keys).await.unwrap();
    assert!(at.names().await.is_empty());
}

async fn awkward_names_survive(at: &Place) {
    let plain: Vec<String> = AWKWARD.iter().map(|&name| name.to_owned()).chain(long(at)).collect();
    survive(at, &plain).await;
    // The same as directories.
    let below: Vec<String> = AWKWARD.iter().map(|name| format!("{name}/{name}")).collect();
    survive(at, &below).await;
    for name in AWKWARD {
        let file = format!("{name}/x");
        at.put(&file, &Bytes::new()).await;
        let prefix = Prefix::below(&at.key(name));
        assert_eq!(at.lines(&prefix, Listing::default()).await, [file.as_str()], "{name:?}");
        let shallow = Listing { shallow: true, ..Listing::default() };
        assert_eq!(at.lines(&at.prefix(), shallow).await, [format!("{name}/")], "{name:?}");
        at.store.delete(&[at.key(&file)]).await.unwrap();
    }
}

async fn names_are_told_apart(at: &Place) {
    for pair in PAIRS {
        let mut bodies = BTreeMap::new();
        for name in pair {
            at.put(name, &Bytes::from(name)).await;
            bodies.insert(name, at.bytes(name).await.unwrap());
        }
        for name in pair {
            assert_eq!(at.bytes(name).await.unwrap(), name, "{pair:?}");
        }
        at.store.delete(&[at.key(pair[0])]).await.unwrap();
        assert!(at.bytes(pair[0]).await.is_none(), "{pair:?}");
        assert_eq!(at.bytes(pair[1]).await.unwrap(), pair[1], "{pair:?}");
        at.store.delete(&[at.key(pair[1])]).await.unwrap();
    }
}

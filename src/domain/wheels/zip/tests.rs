//! Archives of every form, cut, changed and made up.

use proptest::prelude::*;

use super::{MOST_MEMBERS, Pick, Zip, ZipError, records};

fn choose(name: &str) -> Pick {
    match name.rsplit('/').next() {
        Some("METADATA") => Pick::Take("METADATA"),
        Some("RECORD") => Pick::See("RECORD"),
        _ => Pick::Pass,
    }
}

/// How a test's archive is written.
#[derive(Debug, Clone, Copy, Default)]
struct How {
    /// Sizes behind the data, and how: signed, in 64 bits.
    descriptor: Option<(bool, bool)>,
    /// Sizes and the directory's place in 64 bits.
    wide: bool,
}

fn pack(bytes: &[u8], deflate: bool) -> Vec<u8> {
    use std::io::Write as _;
    if !deflate {
        return bytes.to_vec();
    }
    let mut out = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn put(out: &mut Vec<u8>, values: &[(u64, usize)]) {
    for (value, width) in values {
        out.extend_from_slice(&value.to_le_bytes()[..*width]);
    }
}

fn archive(members: &[(&str, &[u8], bool)], how: How) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes, deflate) in members {
        let packed = pack(bytes, *deflate);
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, bytes);
        let (c, u, at) = (packed.len() as u64, bytes.len() as u64, out.len() as u64);
        let follows = how.descriptor.is_some() && *deflate;
        let (flags, method) = (if follows { 8 } else { 0 }, if *deflate { 8 } else { 0 });
        let extra = if how.wide { 20 } else { 0 };
        let (lc, lu, lcrc) = match (follows, how.wide) {
            (true, _) => (0, 0, 0),
            (false, true) => (u64::from(u32::MAX), u64::from(u32::MAX), crc),
            (false, false) => (c, u, crc),
        };
        let extra = if follows { 0 } else { extra };
        out.extend_from_slice(b"PK\x03\x04");
        put(&mut out, &[(20, 2), (flags, 2), (method, 2), (0, 4), (lcrc, 4), (lc, 4), (lu, 4)]);
        put(&mut out, &[(name.len() as u64, 2), (extra, 2)]);
        out.extend_from_slice(name.as_bytes());
        if extra > 0 {
            put(&mut out, &[(1, 2), (16, 2), (u, 8), (c, 8)]);
        }
        out.extend_from_slice(&packed);
        if let (Some((signed, wide)), true) = (how.descriptor, follows) {
            if signed {
                out.extend_from_slice(b"PK\x07\x08");
            }
            let width = if wide { 8 } else { 4 };
            put(&mut out, &[(crc, 4), (c, width), (u, width)]);
        }
        directory.extend_from_slice(b"PK\x01\x02");
        put(&mut directory, &[(20, 2), (20, 2), (flags, 2), (method, 2), (0, 4), (crc, 4), (c, 4), (u, 4)]);
        put(&mut directory, &[(name.len() as u64, 2), (0, 2), (0, 2), (0, 2), (0, 2), (0, 4), (at, 4)]);
        directory.extend_from_slice(name.as_bytes());
    }
    let at = out.len();
    out.extend_from_slice(&directory);
    end(&mut out, at as u64, members.len() as u64, how);
    out
}

fn end(out: &mut Vec<u8>, at: u64, count: u64, how: How) {
    let end = out.len() as u64;
    let size = end - at;
    let (mut shown_count, mut shown_size, mut shown_at) = (count, size, at);
    if how.wide {
        out.extend_from_slice(b"PK\x06\x06");
        put(out, &[(44, 8), (45, 2), (45, 2), (0, 4), (0, 4), (count, 8), (count, 8), (size, 8), (at, 8)]);
        out.extend_from_slice(b"PK\x06\x07");
        put(out, &[(0, 4), (end, 8), (1, 4)]);
        (shown_count, shown_size, shown_at) = (0xffff, u64::from(u32::MAX), u64::from(u32::MAX));
    }
    out.extend_from_slice(b"PK\x05\x06");
    put(out, &[(0, 2), (0, 2), (shown_count, 2), (shown_count, 2), (shown_size, 4), (shown_at, 4), (0, 2)]);
}

/// Walks an archive in pieces of a size; the METADATA in it.
fn walk(bytes: &[u8], piece: usize) -> Result<Option<Vec<u8>>, ZipError> {
    let mut zip = Zip::new(choose);
    bytes.chunks(piece).try_for_each(|piece| zip.push(piece))?;
    let picked = zip.finish()?;
    Ok(picked.taken.into_iter().next().map(|(.., bytes)| bytes))
}

fn small(how: How) -> Vec<u8> {
    let members: [(&str, &[u8], bool); 4] = [
        ("a/__init__.py", b"", false),
        ("a-1.dist-info/METADATA", b"Name: a\nName: a\nName: a\n", true),
        ("a/data.bin", b"0123456789", false),
        ("a-1.dist-info/RECORD", b"rrrrrrrrrrrrrrrrrrrrrr", true),
    ];
    archive(&members, how)
}

fn hows() -> Vec<How> {
    let mut all = vec![How::default(), How { wide: true, ..How::default() }];
    for signed in [false, true] {
        for wide in [false, true] {
            all.push(How { descriptor: Some((signed, wide)), ..How::default() });
        }
    }
    all
}

#[test]
fn every_form_is_read_in_pieces_of_every_size() {
    for how in hows() {
        let bytes = small(how);
        for piece in 1..bytes.len() + 1 {
            let found = walk(&bytes, piece);
            assert_eq!(found, Ok(Some(b"Name: a\nName: a\nName: a\n".to_vec())), "{how:?} {piece}");
        }
    }
}

#[test]
fn cut_off_anywhere_it_is_none() {
    for how in hows() {
        let bytes = small(how);
        for end in 0..bytes.len() {
            let why = walk(&bytes[..end], 7).unwrap_err();
            let expected = if end < 4 { ZipError::NoZip } else { ZipError::Cut };
            assert_eq!(why, expected, "{how:?} {end}");
        }
        assert_eq!(walk(&[&bytes[..], b"x"].concat(), 7), Err(ZipError::Trailing));
        assert_eq!(walk(&[b"x", &bytes[..]].concat(), 7), Err(ZipError::NoZip));
    }
}

#[test]
fn what_the_directory_says_is_what_is_there() {
    let bytes = small(How::default());
    let begins = bytes.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
    let (members, directory) = bytes.split_at(begins);
    // Offset of the first line; its sizes; its checksum; a letter of its name; how many there are.
    for (at, expected) in [
        (42, ZipError::Disagree),
        (20, ZipError::Disagree),
        (16, ZipError::Disagree),
        (46, ZipError::Disagree),
    ] {
        let mut changed = directory.to_vec();
        changed[at] ^= 1;
        assert_eq!(walk(&[members, &changed].concat(), 9), Err(expected), "{at}");
    }
    for back in [22 - 8, 22 - 12, 22 - 16] {
        let mut changed = bytes.clone();
        let at = changed.len() - back;
        changed[at] ^= 1;
        assert_eq!(walk(&changed, 9), Err(ZipError::Disagree), "{back}");
    }
    let twice = [members, members, directory].concat();
    assert_eq!(walk(&twice, 9), Err(ZipError::Twice("METADATA")));
    let gap = [members, b"\0\0\0\0", directory].concat();
    assert_eq!(walk(&gap, 9), Err(ZipError::Disagree));
}

#[test]
fn hostile_members() {
    let one = |name: &str| walk(&archive(&[(name, b"x", false)], How::default()), 5);
    for name in
        ["/etc/passwd", "../x", "a/../x", "a\\b", "C:x", "a//b", "a/./b", "", "/", "a\n", "..", "a/.."]
    {
        assert_eq!(one(name), Err(ZipError::Name), "{name:?}");
    }
    for name in ["a", "a/b", "a/", "\u{fc}/b", "...", "a..b"] {
        assert_eq!(one(name), Ok(None), "{name:?}");
    }
    let large = vec![0_u8; (2 << 20) + 1];
    for how in hows() {
        let bytes = archive(&[("a-1.dist-info/METADATA", &large, true)], how);
        assert_eq!(walk(&bytes, 1000), Err(ZipError::Large("METADATA")), "{how:?}");
    }
    let bomb = vec![0_u8; 70 << 20];
    for descriptor in [None, Some((true, false))] {
        let bytes = archive(&[("a/bomb", &bomb, true)], How { descriptor, wide: false });
        assert_eq!(walk(&bytes, 1000), Err(ZipError::Bomb), "{descriptor:?}");
    }
    let mut encrypted = archive(&[("a", b"x", false)], How::default());
    encrypted[6] |= 1;
    assert_eq!(walk(&encrypted, 1000), Err(ZipError::Encrypted));
    let mut strange = archive(&[("a/METADATA", b"x", false)], How::default());
    strange[8] = 12;
    assert_eq!(walk(&strange, 1000), Err(ZipError::Method));
    assert_eq!(walk(b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 100), Err(ZipError::Disagree));
}

/// One stored member, with these extra fields before it and in the directory, and this comment on its line.
fn told(local: &[u8], listed: &[u8], comment: &[u8]) -> Vec<u8> {
    let (name, bytes) = (b"a/b", b"x");
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, bytes);
    let head = [(20, 2), (0, 2), (0, 2), (0, 4), (crc, 4), (1, 4), (1, 4), (3, 2)];
    let mut out = b"PK\x03\x04".to_vec();
    put(&mut out, &head);
    put(&mut out, &[(local.len() as u64, 2)]);
    out.extend_from_slice(&[name, local, bytes].concat());
    let at = out.len() as u64;
    out.extend_from_slice(b"PK\x01\x02\x14\0");
    put(&mut out, &head);
    put(&mut out, &[(listed.len() as u64, 2), (comment.len() as u64, 2), (0, 2), (0, 2), (0, 4), (0, 4)]);
    out.extend_from_slice(&[name, listed, comment].concat());
    end(&mut out, at, 1, How::default());
    out
}

#[test]
fn no_reader_sees_another_archive() {
    assert_eq!(walk(&told(b"", b"", b""), 5), Ok(None));
    // Another end within the end: readers look from behind.
    for (comment, expected) in
        [(&b"made by hand"[..], Ok(None)), (b"..PK\x05\x06..", Err(ZipError::Disagree))]
    {
        let mut bytes = told(b"", b"", b"");
        bytes.truncate(bytes.len() - 2);
        put(&mut bytes, &[(comment.len() as u64, 2)]);
        bytes.extend_from_slice(comment);
        assert_eq!(walk(&bytes, 5), expected, "{comment:?}");
    }
    let mut astride = told(b"", b"", b"");
    astride.truncate(astride.len() - 2);
    astride.extend_from_slice(b"PK\x05\x06");
    astride.resize(astride.len() + 0x4b50 - 2, b'.');
    assert_eq!(walk(&astride, 5), Err(ZipError::Disagree));
    // Before the end, what looks like the locator of another directory.
    assert_eq!(walk(&told(b"", b"", b"PK\x06\x07............."), 5), Ok(None));
    assert_eq!(walk(&told(b"", b"", b"PK\x06\x07................"), 5), Err(ZipError::Disagree));
    // The name once more.
    let named = |name: &[u8]| {
        let mut field = vec![0x75, 0x70, u8::try_from(5 + name.len()).unwrap(), 0, 1, 0, 0, 0, 0];
        field.extend_from_slice(name);
        field
    };
    let (same, other) = (named(b"a/b"), named(b"a/c"));
    assert_eq!(walk(&told(&same, &same, b""), 5), Ok(None));
    for (local, listed) in [(&other, &same), (&same, &other), (&other, &other)] {
        assert_eq!(walk(&told(local, listed, b""), 5), Err(ZipError::Disagree));
    }
    let wide = [1, 0, 0, 0, 1, 0, 0, 0];
    assert_eq!(walk(&told(b"", &wide[..4], b""), 5), Ok(None));
    assert_eq!(walk(&told(b"", &wide, b""), 5), Err(ZipError::Disagree));
}

#[test]
fn members_have_names_of_their_own() {
    for how in hows() {
        let twice = archive(&[("a/b", b"x", true), ("a/c", b"y", false), ("a/b", b"y", false)], how);
        assert_eq!(walk(&twice, 5), Err(ZipError::SameName), "{how:?}");
    }
    let wide = How { wide: true, ..How::default() };
    let names: Vec<String> = (0..=MOST_MEMBERS).map(|n| n.to_string()).collect();
    let members: Vec<(&str, &[u8], bool)> =
        names.iter().map(|name| (name.as_str(), &b""[..], false)).collect();
    assert_eq!(walk(&archive(&members, wide), 1 << 20), Err(ZipError::Many));
    assert_eq!(walk(&archive(&members[1..], wide), 1 << 20), Ok(None));
}

#[test]
fn what_is_wanted_lies_in_one_place() {
    let members: [(&str, &[u8], bool); 2] =
        [("a-1.dist-info/METADATA", b"x", false), ("b-1.dist-info/RECORD", b"x", false)];
    assert_eq!(walk(&archive(&members, How::default()), 5), Err(ZipError::Places));
}

/// However large the pieces are that it comes in, little more comes out than an archive may hold.
#[test]
fn a_bomb_is_found_out_before_its_end() {
    let mut bytes = archive(&[("a", &vec![0; 128 << 20], true)], How::default());
    // No deflated data go on like this; who reads so far has unpacked all that is before it.
    let directory = bytes.windows(4).rposition(|four| four == b"PK\x01\x02").unwrap();
    bytes[directory - 64..directory].fill(0xff);
    assert_eq!(walk(&bytes, bytes.len()), Err(ZipError::Bomb));
}

proptest! {
    #[test]
    fn flipped_bits_never_panic_and_never_change_what_is_taken(at in 0usize..400, bit in 0u8..8, wide: bool) {
        let mut bytes = small(How { wide, ..How::default() });
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(Some(found)) = walk(&bytes, 11) {
            prop_assert_eq!(found, b"Name: a\nName: a\nName: a\n".to_vec());
        }
    }

    #[test]
    fn no_input_panics(bytes in any::<Vec<u8>>(), piece in 1usize..20) {
        let begun = [b"PK\x03\x04".as_slice(), &bytes].concat();
        prop_assert!(walk(&bytes, piece).is_err() && walk(&begun, piece).is_err());
    }

    #[test]
    fn plain_names_stay_below(name in "[a./\\\\:]{0,8}") {
        if records::is_plain(&name) {
            prop_assert!(!name.starts_with('/') && !name.split('/').any(|s| s == ".."));
        }
    }
}

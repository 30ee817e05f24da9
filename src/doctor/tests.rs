//! Each thing that can be seen, judged as the page says.

use super::*;
use crate::store::examine::{Fact, NoEntry};

fn bucket() -> Place {
    Place::Bucket { name: "cache".to_owned(), prefix: Some("team".to_owned()) }
}

fn one(role: Role, place: &Place, probe: Probe, seen: Seen) -> Check {
    let report = diagnose("here", role, place, &[Observation { probe, seen }]);
    report.checks().first().cloned().unwrap()
}

fn gateway(probe: Probe, seen: Seen) -> Check {
    one(Role::Gateway, &bucket(), probe, seen)
}

#[test]
fn every_probe_has_one_row_and_every_row_its_own_name() {
    let mut names: Vec<_> = table::TABLE.iter().map(|(_, entry)| entry.name).collect();
    let mut probes: Vec<_> = table::TABLE.iter().map(|(probe, _)| *probe).collect();
    let all = probes.len();
    names.sort_unstable();
    probes.sort_unstable();
    names.dedup();
    probes.dedup();
    assert_eq!((names.len(), probes.len()), (all, all));
    // The last one of the enum: rows are as many as probes.
    assert_eq!(all, Probe::Ready as usize + 1);
}

#[test]
fn the_page_has_a_row_for_each() {
    let page = include_str!("../../docs/doctor.md");
    for (_, entry) in table::TABLE {
        assert!(
            page.contains(&format!("| `{}` |", entry.name)),
            "docs/doctor.md has no row for {}",
            entry.name
        );
    }
}

/// What fails says what it means and how it is mended; facts say so themselves.
#[test]
fn what_is_wrong_has_a_mend() {
    let silent = [Probe::Reach, Probe::Clock, Probe::Server, Probe::FileSystem, Probe::Room];
    for (probe, entry) in table::TABLE.iter().filter(|(probe, _)| !silent.contains(probe)) {
        for place in [bucket(), Place::Directory] {
            let check = one(Role::Gateway, &place, *probe, Seen::Wrong("odd".to_owned()));
            assert!(matches!(check.state, State::Warn | State::Fail), "{probe:?}: {check:?}");
            let named = !check.means.is_empty() || !check.mend.is_empty();
            assert!(named, "{} says neither what it means nor how it is mended", entry.name);
        }
    }
}

#[test]
fn a_refused_permission_is_named_with_its_resource() {
    for (probe, action, arn) in [
        (Probe::List, "s3:ListBucket", "arn:aws:s3:::cache"),
        (Probe::Read, "s3:GetObject", "arn:aws:s3:::cache/team/*"),
        (Probe::DeleteMany, "s3:DeleteObject", "arn:aws:s3:::cache/team/*"),
    ] {
        let check = gateway(probe, Seen::Refused("403".to_owned()));
        let permission = Permission { action, resource: arn.to_owned() };
        assert_eq!((check.state, check.permission), (State::Fail, Some(permission)));
        assert!(check.mend.contains(action) && check.mend.contains(arn), "{}", check.mend);
    }
    let of_doctor = gateway(Probe::Versioning, Seen::Refused("403".to_owned()));
    assert_eq!(of_doctor.state, State::Warn);
    let directory = one(Role::Gateway, &Place::Directory, Probe::Write, Seen::Refused("EACCES".to_owned()));
    assert_eq!((directory.state, directory.permission), (State::Fail, None));
}

#[test]
fn what_a_role_does_not_need_it_should_not_have() {
    for role in [Role::Sweep, Role::Reader] {
        assert_eq!(one(role, &bucket(), Probe::Write, Seen::Well(String::new())).state, State::Warn);
        let refused = one(role, &bucket(), Probe::Write, Seen::Refused("403".to_owned()));
        assert_eq!((refused.state, refused.permission), (State::Ok, None));
    }
    assert_eq!(gateway(Probe::Write, Seen::Well(String::new())).state, State::Ok);
}

#[test]
fn values_have_their_marks() {
    let ahead = |seconds| gateway(Probe::Clock, Seen::Fact(Fact::Ahead(seconds))).state;
    assert_eq!([0, -60, 61, -600, 601, -601].map(ahead), {
        use State::{Fail, Ok, Warn};
        [Ok, Ok, Warn, Warn, Fail, Fail]
    });
    let room = |bytes, files| gateway(Probe::Room, Seen::Fact(Fact::Room { bytes, files, free: 1 })).state;
    assert_eq!(room(10, Some(10)), State::Ok);
    assert_eq!(room(50, Some(9)), State::Warn);
    assert_eq!(room(9, None), State::Warn);
    assert_eq!(room(1, None), State::Fail);
    let rules = |rules| gateway(Probe::Rules, Seen::Fact(Fact::Rules(rules))).state;
    assert_eq!(rules(None), State::Warn);
    assert_eq!(rules(Some("<Rule></Rule>".to_owned())), State::Ok);
    assert_eq!(gateway(Probe::Rules, Seen::Unknown("501".to_owned())).state, State::Warn);
    for (number, state) in [(0x6969, State::Warn), (0xef53, State::Ok), (0xffff_ffff, State::Ok)] {
        assert_eq!(gateway(Probe::FileSystem, Seen::Fact(Fact::FileSystem(number))).state, state);
    }
    let versions = |enabled| gateway(Probe::Versioning, Seen::Fact(Fact::Versions { enabled })).state;
    assert_eq!([versions(true), versions(false)], [State::Warn, State::Ok]);
}

#[test]
fn a_region_that_is_named_is_the_mend() {
    let no = NoEntry::Region(Some("eu-west-1".to_owned()));
    let seen = Observation { probe: Probe::Reach, seen: Seen::Fact(Fact::NoEntry(no)) };
    let report = diagnose("here", Role::Gateway, &bucket(), std::slice::from_ref(&seen));
    assert!(!report.reached());
    assert_eq!(report.checks()[0].mend, "--s3-region eu-west-1");
}

/// The policy that Terraform attaches is the gateway's, and nothing but this command's own statement is beside it.
#[test]
fn the_gateways_policy_is_the_one_of_terraform() {
    let spelled: serde_json::Value =
        serde_json::from_str(include_str!("../../terraform/aws/policy.json")).unwrap();
    let place = Place::Bucket { name: "BUCKET".to_owned(), prefix: None };
    let printed: serde_json::Value = serde_json::from_str(&policy(Role::Gateway, &place).unwrap()).unwrap();
    let [bucket, objects, doctor] = printed["Statement"].as_array().unwrap().as_slice() else {
        panic!("{printed}")
    };
    assert_eq!([bucket, objects], [&spelled["Statement"][0], &spelled["Statement"][1]]);
    assert!(
        doctor["Action"]
            .as_array()
            .unwrap()
            .iter()
            .all(|action| action.as_str().unwrap().starts_with("s3:Get"))
    );
    assert_eq!(policy(Role::Gateway, &Place::Directory), None);
}

#[test]
fn colour_is_for_terminals() {
    let seen =
        [Observation { probe: Probe::Room, seen: Seen::Fact(Fact::Room { bytes: 1, files: None, free: 0 }) }];
    let report = diagnose("here", Role::Gateway, &Place::Directory, &seen);
    let text = |colour| {
        let mut out = Vec::new();
        report.tell(&mut out, colour).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert!(text(true).contains("\x1b[31mFAIL\x1b[0m") && !text(false).contains('\x1b'));
    assert!(
        text(false).contains("mend: ") && text(false).contains("0 ok, 0 to be looked at, 1 failed"),
        "{}",
        text(false)
    );
}

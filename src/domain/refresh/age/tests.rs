//! The comparison, by hand. Months of it are lived through in `tests/it/refresh/model.rs`.

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_use_refreshes_what_is_old_enough_for_its_place() {
    let ages = Ages { artifacts: Some(15 * DAY), please: Some(DAY), shared: None, built: Some(90 * DAY) };
    let now = SystemTime::UNIX_EPOCH + 10_000 * DAY;
    for (place, age, due) in [
        (Place::Artifacts, 15 * DAY - Duration::from_nanos(1), false),
        (Place::Artifacts, 15 * DAY, true),
        (Place::Artifacts, 9000 * DAY, true),
        (Place::Please, DAY, true),
        (Place::Please, Duration::ZERO, false),
        (Place::Shared, 9000 * DAY, false),
        (Place::Built, 89 * DAY, false),
        (Place::Built, 90 * DAY, true),
    ] {
        assert_eq!(ages.is_due(place, now - age, now), due, "{place:?} {age:?}");
        assert!(!ages.is_due(place, now + age + DAY, now), "from the future");
        assert!(!Ages::default().is_due(place, now - age, now), "switched off");
    }
}

#[test]
fn what_is_young_is_younger_than_what_is_due() {
    let ages = Ages { artifacts: Some(15 * DAY), please: Some(Duration::MAX), ..Ages::default() };
    let now = SystemTime::UNIX_EPOCH + 10_000 * DAY;
    let young = ages.young(Place::Artifacts, now).unwrap();
    assert!(young > now - DAY && young < now);
    assert!(!ages.is_due(Place::Artifacts, young, now));
    let beyond = ages.young(Place::Please, now).unwrap();
    assert!(beyond <= SystemTime::UNIX_EPOCH && !ages.is_due(Place::Please, beyond, now), "beyond all dates");
    assert_eq!(ages.young(Place::Shared, now), None);
}

#[test]
fn indexes_have_their_places() {
    assert_eq!(Place::of(&IndexName::Shared), Place::Shared);
    assert_eq!(Place::of(&IndexName::Built("e".parse().unwrap())), Place::Built);
}

//! A person's number changes: recorded in both histories, without influence.

use super::disk::Disk;
use super::*;
use crate::limits::RENUMBERINGS_MAX;

fn renumbering(old: u32, new: u32, seconds: i64) -> Renumbering {
    Renumbering {
        old: person(old),
        new: person(new),
        at: Stamp::try_from(moment(seconds)).expect("a stamp"),
        channel: Channel::PeselRegister,
        registrant: registrant(),
    }
}

fn kinds(opened: &Opened, n: u32) -> Vec<EventKind> {
    let entry = opened.reader.entry(person(n)).expect("readable");
    entry.events().iter().map(|event| event.event().kind()).collect()
}

#[test]
fn the_old_number_keeps_its_reservation_and_the_new_one_has_none() {
    use EventKind::{Renumbering, Reservation, Withdrawal};
    let disk = Disk::default();
    let opened = Opened::with(disk.opener()).expect("it opens");
    let tell = |opened: &Opened, told| opened.runtime.block_on(opened.commander.renumber(told, None, None));
    opened.submit(reserve(person(1))).expect("allowed");
    opened.submit(withdraw_until(person(1), 3_600)).expect("allowed");
    let before = opened.states();
    let told = tell(&opened, renumbering(1, 2, -60)).expect("recorded");
    assert!(!told.replayed());
    assert_eq!(told.event().event().renumbered_to(), Some(person(2)));
    assert_eq!(opened.states(), before);
    assert_eq!(opened.reader.snapshot().sequence(), told.event().sequence());
    assert_eq!(kinds(&opened, 1), [Reservation, Withdrawal, Renumbering]);
    assert_eq!(kinds(&opened, 2), [Renumbering]);
    // Told again, alone and twice in one commit.
    assert!(tell(&opened, renumbering(1, 2, -60)).expect("known").replayed());
    let twice = opened.runtime.block_on(async {
        let told = renumbering(2, 3, -50);
        tokio::join!(
            opened.commander.renumber(told.clone(), None, None),
            opened.commander.renumber(told, None, None)
        )
    });
    assert_eq!(twice.0.expect("recorded").event(), twice.1.expect("known").event());
    let refused =
        [(renumbering(1, 1, -60), Refusal::SameNumber), (renumbering(1, 2, 1), Refusal::FutureMoment)];
    for (told, refusal) in refused {
        assert_eq!(tell(&opened, told).err(), Some(CommandError::Refused(refusal)));
    }
    // It neither drops the schedule of the old number nor stands in the new one's way.
    opened.hand.set(moment(3_600));
    until(|| opened.reader.snapshot().state(person(1)).is_reserved());
    opened.submit(reserve(person(2))).expect("allowed");
    assert_eq!(kinds(&opened, 2), [Renumbering, Renumbering, Reservation]);
    let chain = opened.reader.verify_chain().expect("whole");
    opened.stop();
    let opened = Opened::with_clock(disk.opener(), 4_000).expect("it opens");
    assert_eq!(opened.reader.verify_chain().expect("whole"), chain);
    assert_eq!(kinds(&opened, 3), [Renumbering]);
    assert!(!opened.reader.snapshot().state(person(3)).is_reserved());
    assert_eq!(opened.reader.snapshot().entry_count(), 2);
}

/// Whoever tells of one number again and again must not hold up everybody's changes.
#[test]
fn a_number_has_so_many_renumberings_at_most() {
    let opened = Opened::with(Disk::default().opener()).expect("it opens");
    let tell = |told| opened.runtime.block_on(opened.commander.renumber(told, None, None));
    let max = u32::try_from(RENUMBERINGS_MAX).expect("small");
    for told in 0..max {
        assert!(!tell(renumbering(1, 2 + told, -60)).expect("recorded").replayed());
    }
    let refused = Err(CommandError::Refused(Refusal::TooManyRenumberings));
    for one_more in [renumbering(1, 2 + max, -60), renumbering(2 + max, 1, -60)] {
        assert_eq!(tell(one_more).map(|outcome| outcome.replayed()), refused);
    }
    // What is told again is known nevertheless, and so are other numbers.
    for told in [0, max / 2, max - 1] {
        assert!(tell(renumbering(1, 2 + told, -60)).expect("known").replayed());
    }
    assert!(!tell(renumbering(2, 3, -60)).expect("recorded").replayed());
    assert_eq!(kinds(&opened, 1).len(), RENUMBERINGS_MAX);
}

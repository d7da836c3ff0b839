//! Records and their bytes.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use crate::audit::codec::{
    Body, DecodeError, decode, encode_closed, encode_opened, encode_sealed, encode_verification,
};
use crate::audit::id::{IdTail, id_tail};
use crate::audit::record::Opened;
use crate::audit::{Item, Refusal, RegisterState, Shape, Told, VerificationRecord};
use crate::clock::Moment;
use crate::environment::Environment;
use crate::limits::{NAME_BYTES_MAX, REFERENCE_BYTES_MAX, STREAM_CHUNK_LINES_MAX};
use crate::pesel::{ORDINALS, Ordinal, PeselError};
use crate::secret::KeyId;

fn moment() -> impl Strategy<Value = Moment> {
    prop_oneof![Just(i64::MIN), Just(i64::MAX), any::<i64>(), 0i64..4_000_000_000]
        .prop_map(Moment::from_unix_seconds)
}

fn text(bytes_max: usize) -> impl Strategy<Value = String> {
    let cut = move |text: String| text[..text.floor_char_boundary(bytes_max)].to_owned();
    prop_oneof![Just(String::new()), ".{0,64}".prop_map(cut), "ż{100,128}".prop_map(cut)]
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop::sample::select(vec![
        Refusal::InvalidPesel(PeselError::Length),
        Refusal::InvalidPesel(PeselError::Digit),
        Refusal::InvalidPesel(PeselError::Date),
        Refusal::InvalidPesel(PeselError::Checksum),
        Refusal::MalformedLine,
        Refusal::FutureMoment,
        Refusal::RegisterUnavailable,
    ])
}

fn item() -> impl Strategy<Value = Item<String>> {
    let verified = (
        0..ORDINALS,
        any::<bool>(),
        prop::option::of(moment()),
        prop::option::of(moment()),
        prop::option::of(moment()),
        prop::option::of(text(REFERENCE_BYTES_MAX)),
    )
        .prop_map(|(ordinal, reserved, reserved_at, withdrawn_at, asked_at, reference)| Item::Verified {
            ordinal: Ordinal::new(ordinal).expect("in range"),
            told: Told { reserved, reserved_at, withdrawn_at },
            asked_at,
            reference,
        });
    prop_oneof![4 => verified, 1 => refusal().prop_map(Item::Refused)]
}

fn record() -> impl Strategy<Value = VerificationRecord> {
    let shape = prop_oneof![
        Just(Shape::Single),
        Just(Shape::Batch),
        any::<u64>().prop_map(|first_line| Shape::StreamChunk { first_line }),
    ];
    let head = (
        shape,
        moment(),
        prop::option::of(moment()),
        "[a-z2-7]{10}",
        text(NAME_BYTES_MAX),
        any::<u32>(),
        (any::<u64>(), moment()),
        prop::option::of(text(REFERENCE_BYTES_MAX)),
    );
    let random = (0u64..1 << 48, any::<u64>(), any::<u64>());
    (head, random, prop::collection::vec(item(), 1..20)).prop_map(|(head, random, mut items)| {
        let (shape, answered_at, asked_at, key_id, institution, address, register, reference) = head;
        if shape == Shape::Single {
            items.truncate(1);
        }
        let tail = id_tail(random.1, random.2);
        VerificationRecord {
            verification_id: crate::audit::VerificationId::from_parts(random.0, &tail),
            answered_at,
            asked_at,
            shape,
            key_id: KeyId::parse(key_id.as_bytes()).expect("an id"),
            institution,
            address: Ipv4Addr::from_bits(address),
            register: RegisterState { sequence: register.0, as_of: register.1 },
            reference,
            items,
        }
    })
}

fn borrowed(item: &Item<String>) -> Item<&str> {
    match item {
        Item::Refused(refusal) => Item::Refused(*refusal),
        Item::Verified { ordinal, told, asked_at, reference } => Item::Verified {
            ordinal: *ordinal,
            told: *told,
            asked_at: *asked_at,
            reference: reference.as_deref(),
        },
    }
}

fn encode(record: &VerificationRecord) -> Vec<u8> {
    let mut bytes = Vec::new();
    let id = record.verification_id.as_bytes();
    let tail: IdTail = id[6..].try_into().expect("ten bytes");
    let items = record.items.iter().map(borrowed);
    encode_verification(&mut bytes, &tail, record.shape, &record.verification(), items)
        .expect("within limits");
    // The time is the writer's to fill in.
    bytes[2..8].copy_from_slice(&id[..6]);
    bytes
}

fn encode_any(body: &Body<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    match body {
        Body::Verification(view) => return encode(&view.to_record()),
        Body::Opened(opened) => encode_opened(&mut bytes, opened),
        Body::Closed(moment) => encode_closed(&mut bytes, *moment),
        Body::Sealed => encode_sealed(&mut bytes),
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_verification_is_read_back(record in record()) {
        let bytes = encode(&record);
        match decode(&bytes) {
            Ok(Body::Verification(view)) => {
                prop_assert_eq!(view.to_record(), record);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn the_trails_own_records_are_read_back(
        version in ".{0,40}", production in any::<bool>(), moment in moment(), recovered_bytes in any::<u64>(),
    ) {
        let environment = if production { Environment::Production } else { Environment::Test };
        let opened = Opened { version: &version, environment, moment, recovered_bytes };
        let mut bytes = Vec::new();
        encode_opened(&mut bytes, &opened);
        let read = decode(&bytes);
        prop_assert!(matches!(read, Ok(Body::Opened(read)) if read == opened));
        bytes.clear();
        encode_closed(&mut bytes, moment);
        let read = decode(&bytes);
        prop_assert!(matches!(read, Ok(Body::Closed(read)) if read == moment));
    }

    /// One meaning, one encoding: a changed record either is refused or means
    /// something that is written just so.
    #[test]
    fn what_decodes_encodes_to_the_same_bytes(
        record in record(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = encode(&record);
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        if let Ok(body) = decode(&bytes) {
            prop_assert_eq!(encode_any(&body), bytes);
        }
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..6) {
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        if let Ok(body) = decode(&bytes) {
            prop_assert_eq!(encode_any(&body), bytes);
        }
    }
}

#[test]
fn unknown_kinds_are_refused() {
    for kind in (0..=255u8).filter(|kind| !(1..=4).contains(kind)) {
        assert_eq!(decode(&[kind, 0, 0]).err(), Some(DecodeError::UnknownKind(kind)));
    }
    assert_eq!(decode(&[]).err(), Some(DecodeError::Short));
    assert!(matches!(decode(&[4]), Ok(Body::Sealed)));
    assert_eq!(decode(&[4, 0]).err(), Some(DecodeError::Long));
}

#[test]
fn a_record_is_as_small_as_promised() {
    let mut bytes = Vec::new();
    let said = super::support::verification();
    let tail = id_tail(1, 2);
    let item = Item::verified(Ordinal::new(5).expect("in range"), super::support::told(2));
    encode_verification(&mut bytes, &tail, Shape::Single, &said, [item]).expect("within limits");
    let framed = bytes.len() + crate::audit::segment::RECORD_HEADER_BYTES;
    assert!(framed <= 100, "{framed} bytes");
    bytes.clear();
    let free = Item::verified(Ordinal::new(5).expect("in range"), super::support::told(1));
    encode_verification(&mut bytes, &tail, Shape::Batch, &said, []).expect("within limits");
    let empty = bytes.len();
    encode_verification(&mut bytes, &tail, Shape::Batch, &said, [free, item]).expect("within limits");
    assert_eq!(bytes.len() - 2 * empty, 5 + 10);
}

#[test]
fn the_largest_chunk_fits_into_a_record() {
    let reference = "ż".repeat(REFERENCE_BYTES_MAX / 2);
    let moment = Some(Moment::from_unix_seconds(i64::MAX));
    let item = Item::Verified {
        ordinal: Ordinal::new(ORDINALS - 1).expect("in range"),
        told: Told { reserved: true, reserved_at: moment, withdrawn_at: moment },
        asked_at: moment,
        reference: Some(reference.as_str()),
    };
    let name = "n".repeat(NAME_BYTES_MAX);
    let said = crate::audit::Verification {
        asked_at: moment,
        institution: &name,
        reference: Some(&reference),
        ..super::support::verification()
    };
    let mut bytes = Vec::new();
    let shape = Shape::StreamChunk { first_line: u64::MAX };
    let items = std::iter::repeat_n(item, STREAM_CHUNK_LINES_MAX);
    encode_verification(&mut bytes, &id_tail(1, 2), shape, &said, items).expect("within limits");
    let largest = crate::audit::writer::record_bytes_max(crate::limits::SEGMENT_BYTES_MIN);
    assert!(bytes.len() + 16 <= largest, "{} of {largest}", bytes.len());
}

#[test]
fn debug_shows_no_number_and_no_reference() {
    let item: Item<String> =
        Item::verified(Ordinal::new(123_456_789).expect("in range"), super::support::told(2));
    let shown = format!("{item:?} {:?}", super::support::verification());
    assert!(!shown.contains("123456789") && !shown.contains("Sp"), "{shown}");
}

//! The bytes of one asked number.

use super::input::{Input, moment_bytes, put_reference};
use super::{DecodeError, TextTooLong, flag};
use crate::audit::record::{Item, Refusal, Told};
use crate::pesel::{Ordinal, PeselError};

const ITEM_RESERVED: u8 = 1;
const ITEM_RESERVED_AT: u8 = 1 << 1;
const ITEM_WITHDRAWN_AT: u8 = 1 << 2;
const ITEM_ASKED_AT: u8 = 1 << 3;
const ITEM_REFERENCE: u8 = 1 << 4;
const ITEM_REFUSED: u8 = 1 << 7;
const ITEM_VERIFIED_FLAGS: u8 =
    ITEM_RESERVED | ITEM_RESERVED_AT | ITEM_WITHDRAWN_AT | ITEM_ASKED_AT | ITEM_REFERENCE;

/// The items of a verification that has been decoded as a whole before.
#[derive(Debug, Clone, Copy)]
pub(in crate::audit) struct Items<'a>(pub(super) Input<'a>);

impl<'a> Iterator for Items<'a> {
    type Item = Item<&'a str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.0.is_empty() {
            return None;
        }
        // `decode` has read every item once, so this never fails.
        take_item(&mut self.0).ok()
    }
}

pub(super) fn put_item(out: &mut Vec<u8>, item: Item<&str>) -> Result<(), TextTooLong> {
    let (ordinal, told, asked_at, reference) = match item {
        Item::Refused(refusal) => {
            out.push(ITEM_REFUSED | refusal_code(refusal));
            return Ok(());
        }
        Item::Verified { ordinal, told, asked_at, reference } => (ordinal, told, asked_at, reference),
    };
    let mut head = [0u8; 5];
    head[0] = flag(told.reserved, ITEM_RESERVED)
        | flag(told.reserved_at.is_some(), ITEM_RESERVED_AT)
        | flag(told.withdrawn_at.is_some(), ITEM_WITHDRAWN_AT)
        | flag(asked_at.is_some(), ITEM_ASKED_AT)
        | flag(reference.is_some(), ITEM_REFERENCE);
    head[1..].copy_from_slice(&ordinal.value().to_le_bytes());
    out.extend_from_slice(&head);
    for moment in [told.reserved_at, told.withdrawn_at, asked_at].into_iter().flatten() {
        out.extend_from_slice(&moment_bytes(moment));
    }
    match reference {
        Some(reference) => put_reference(out, reference),
        None => Ok(()),
    }
}

pub(super) fn take_item<'a>(input: &mut Input<'a>) -> Result<Item<&'a str>, DecodeError> {
    let flags = input.byte()?;
    if flags & ITEM_REFUSED != 0 {
        let refusal = refusal_of(flags & !ITEM_REFUSED).ok_or(DecodeError::Field("refusal"))?;
        return Ok(Item::Refused(refusal));
    }
    if flags & !ITEM_VERIFIED_FLAGS != 0 {
        return Err(DecodeError::Field("item flags"));
    }
    let ordinal = Ordinal::new(u32::from_le_bytes(input.array()?)).ok_or(DecodeError::Field("ordinal"))?;
    let told = Told {
        reserved: flags & ITEM_RESERVED != 0,
        reserved_at: input.optional(flags & ITEM_RESERVED_AT != 0, Input::moment)?,
        withdrawn_at: input.optional(flags & ITEM_WITHDRAWN_AT != 0, Input::moment)?,
    };
    let asked_at = input.optional(flags & ITEM_ASKED_AT != 0, Input::moment)?;
    let reference = input.optional(flags & ITEM_REFERENCE != 0, Input::reference)?;
    Ok(Item::Verified { ordinal, told, asked_at, reference })
}

pub(super) fn owned_item(item: Item<&str>) -> Item<String> {
    match item {
        Item::Refused(refusal) => Item::Refused(refusal),
        Item::Verified { ordinal, told, asked_at, reference } => {
            Item::Verified { ordinal, told, asked_at, reference: reference.map(str::to_owned) }
        }
    }
}

const fn refusal_code(refusal: Refusal) -> u8 {
    match refusal {
        Refusal::InvalidPesel(PeselError::Length) => 1,
        Refusal::InvalidPesel(PeselError::Digit) => 2,
        Refusal::InvalidPesel(PeselError::Date) => 3,
        Refusal::InvalidPesel(PeselError::Checksum) => 4,
        Refusal::MalformedLine => 5,
        Refusal::FutureMoment => 6,
        Refusal::RegisterUnavailable => 7,
    }
}

const fn refusal_of(code: u8) -> Option<Refusal> {
    Some(match code {
        1 => Refusal::InvalidPesel(PeselError::Length),
        2 => Refusal::InvalidPesel(PeselError::Digit),
        3 => Refusal::InvalidPesel(PeselError::Date),
        4 => Refusal::InvalidPesel(PeselError::Checksum),
        5 => Refusal::MalformedLine,
        6 => Refusal::FutureMoment,
        7 => Refusal::RegisterUnavailable,
        _ => return None,
    })
}

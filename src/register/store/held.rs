//! The numbers whose ends of temporary withdrawals wait for imports: for the next
//! start, which knows no import any more.

use std::borrow::Cow;

use redb::{ReadTransaction, Table};
use roaring::RoaringBitmap;

use super::error::{Damage, StoreError};
use super::{SETTINGS, SETTINGS_TABLE, damage};
use crate::limits::HELD_NUMBERS_STORED_MAX;
use crate::pesel::ORDINALS;

const KEY: &str = "late-ends";

/// The numbers whose ends wait, as a start finds them.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) enum HeldEnds {
    /// These; nothing is stored of none.
    Of(RoaringBitmap),
    /// Too many to name ([`HELD_NUMBERS_STORED_MAX`]): any number's may wait.
    OfAny,
}

impl Default for HeldEnds {
    fn default() -> Self {
        Self::Of(RoaringBitmap::new())
    }
}

impl From<Cow<'_, RoaringBitmap>> for HeldEnds {
    fn from(numbers: Cow<'_, RoaringBitmap>) -> Self {
        if numbers.len() <= HELD_NUMBERS_STORED_MAX { Self::Of(numbers.into_owned()) } else { Self::OfAny }
    }
}

impl HeldEnds {
    /// The numbers, `None` for any.
    pub(in super::super) const fn numbers(&self) -> Option<&RoaringBitmap> {
        match self {
            Self::Of(numbers) => Some(numbers),
            Self::OfAny => None,
        }
    }

    /// What is not among those that were known.
    pub(in super::super) fn beyond(&self, known: &Self) -> Self {
        match (self, known) {
            (Self::Of(numbers), Self::Of(known)) => Self::Of(numbers - known),
            (Self::Of(_), Self::OfAny) => self.clone(),
            // Which of them are new, nobody knows.
            (Self::OfAny, _) => Self::OfAny,
        }
    }

    /// Is it these?
    pub(in super::super) fn is(&self, numbers: &RoaringBitmap) -> bool {
        match self {
            Self::Of(own) => own == numbers,
            Self::OfAny => numbers.len() > HELD_NUMBERS_STORED_MAX,
        }
    }

    pub(super) fn store(&self, settings: &mut Table<'_, &str, &[u8]>) -> Result<(), StoreError> {
        let mut bytes = Vec::new();
        match self {
            Self::Of(numbers) if numbers.is_empty() => {
                settings.remove(KEY)?;
                return Ok(());
            }
            Self::Of(numbers) => numbers.serialize_into(&mut bytes)?,
            // Not the bytes of any set.
            Self::OfAny => {}
        }
        settings.insert(KEY, bytes.as_slice())?;
        Ok(())
    }

    pub(super) fn read(txn: &ReadTransaction) -> Result<Self, StoreError> {
        let settings = txn.open_table(SETTINGS_TABLE)?;
        let stored = settings.get(KEY)?;
        Ok(stored.map(|value| Self::decode(value.value())).transpose()?.unwrap_or_default())
    }

    /// Judges a row of the settings that an export tells.
    pub(super) fn judge(key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        if key == KEY.as_bytes() {
            Self::decode(value)?;
        }
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        // Four bytes are a moment, which stood here before the numbers did.
        if matches!(bytes.len(), 0 | 4) {
            return Ok(Self::OfAny);
        }
        let numbers = RoaringBitmap::deserialize_from(bytes).ok();
        let numbers = numbers.filter(|numbers| numbers.max().is_none_or(|last| last < ORDINALS));
        let numbers = numbers.filter(|numbers| numbers.serialized_size() == bytes.len());
        numbers.map(Self::Of).ok_or_else(|| damage(SETTINGS, None, "the numbers that wait are not readable"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_set_of_numbers_is_damage() {
        let stored = |numbers: &[u32]| {
            let mut bytes = Vec::new();
            numbers.iter().collect::<RoaringBitmap>().serialize_into(&mut bytes).expect("written");
            bytes
        };
        let good = stored(&[1, 70_000, ORDINALS - 1]);
        let HeldEnds::Of(numbers) = HeldEnds::decode(&good).expect("readable") else { panic!("a few") };
        assert!(numbers.iter().eq([1, 70_000, ORDINALS - 1]));
        assert_eq!(HeldEnds::decode(&[]).expect("any"), HeldEnds::OfAny);
        for bad in [&good[..good.len() - 1], &[&good[..], &[0]].concat(), &stored(&[ORDINALS]), &[7; 9]] {
            assert!(HeldEnds::decode(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn too_many_are_any() {
        let numbers = (0..HELD_NUMBERS_STORED_MAX as u32).collect::<RoaringBitmap>();
        let one_more = (0..=HELD_NUMBERS_STORED_MAX as u32).collect::<RoaringBitmap>();
        let (few, many) = (HeldEnds::from(Cow::Borrowed(&numbers)), HeldEnds::from(Cow::Borrowed(&one_more)));
        assert_eq!(many, HeldEnds::OfAny);
        assert!(few.is(&numbers) && many.is(&one_more) && !few.is(&one_more) && !many.is(&numbers));
    }
}

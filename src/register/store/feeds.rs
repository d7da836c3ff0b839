//! Where each feed stands, and what its last messages were answered.
//!
//! | table | key | value |
//! |---|---|---|
//! | `feeds` | channel and registrant | last sequence taken, when |
//! | `feed-answers` | the same and the sequence, big-endian | fingerprint, answer |
//!
//! Each value ends with the CRC32C of key and value, so that a flipped bit is
//! found and never takes a message for another. Of each feed the last
//! [`FEED_ANSWERS_KEPT`] answers are kept.

use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, TableError, WriteTransaction};

use super::super::feed::{Delivery, Feed, FeedSequence, FeedStanding, Place, place};
use super::super::words::{Channel, Registrant, Sequence, Stamp};
use super::answer::{Answer, seal, unsealed};
use super::codec::Fields;
use super::damage;
use super::error::{Damage, StoreError};
use crate::limits::FEED_ANSWERS_KEPT;

const FEEDS: &str = "feeds";
const ANSWERS: &str = "feed-answers";

pub(super) const FEEDS_TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new(FEEDS);
pub(super) const ANSWERS_TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new(ANSWERS);

/// What a message of a feed led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum FeedAnswer {
    /// As a command, to this answer.
    Given(Answer),
    /// It could not be read as a command; whoever reads it again knows why.
    PassedOver,
}

/// What the store knows about a message that is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Delivered {
    /// It is the next one.
    Next,
    /// It was delivered before and answered with this.
    Again(FeedAnswer),
    /// Another message was delivered at its place.
    OtherRequest,
    /// Others are missing before it; the first of them.
    Gap(FeedSequence),
    /// It was taken so long ago that nobody knows whether it was the same; the
    /// next one that would be taken.
    Forgotten(FeedSequence),
}

/// The two tables within a transaction.
pub(super) struct Feeds<'txn> {
    feeds: Table<'txn, &'static [u8], &'static [u8]>,
    answers: Table<'txn, &'static [u8], &'static [u8]>,
}

impl<'txn> Feeds<'txn> {
    pub(super) fn open(txn: &'txn WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self { feeds: txn.open_table(FEEDS_TABLE)?, answers: txn.open_table(ANSWERS_TABLE)? })
    }

    pub(super) fn deliver(&self, feed: &Feed, delivery: &Delivery) -> Result<Delivered, StoreError> {
        let key = feed_key(feed);
        let last = match self.feeds.get(key.as_slice())? {
            Some(row) => Some(standing(feed, &key, row.value())?.last),
            None => None,
        };
        Ok(match place(last, delivery.sequence) {
            Place::Next => Delivered::Next,
            Place::Gap { expected } => Delivered::Gap(expected),
            Place::Again => {
                let key = answer_key(&key, delivery.sequence);
                match self.answers.get(key.as_slice())? {
                    None => Delivered::Forgotten(last.map_or(FeedSequence::FIRST, FeedSequence::next)),
                    Some(row) => match decode_answer(&key, row.value())? {
                        (fingerprint, answer) if fingerprint == delivery.fingerprint => {
                            Delivered::Again(answer)
                        }
                        _ => Delivered::OtherRequest,
                    },
                }
            }
        })
    }

    /// Takes the next message of a feed, with its answer.
    pub(super) fn take(
        &mut self,
        feed: &Feed,
        delivery: &Delivery,
        answer: FeedAnswer,
        now: Stamp,
    ) -> Result<(), StoreError> {
        let key = feed_key(feed);
        let mut value = Vec::with_capacity(16);
        value.extend_from_slice(&delivery.sequence.value().to_le_bytes());
        value.extend_from_slice(&now.seconds().to_le_bytes());
        seal(&key, &mut value);
        self.feeds.insert(key.as_slice(), value.as_slice())?;
        let taken = answer_key(&key, delivery.sequence);
        let value = encode_answer(&taken, &delivery.fingerprint, answer);
        self.answers.insert(taken.as_slice(), value.as_slice())?;
        // One in, one out: there are never more of them.
        let oldest = delivery.sequence.value().checked_sub(FEED_ANSWERS_KEPT).and_then(FeedSequence::new);
        if let Some(oldest) = oldest {
            self.answers.remove(answer_key(&key, oldest).as_slice())?;
        }
        Ok(())
    }
}

/// Where every feed stands, by channel and registrant.
pub(super) fn standings(txn: &ReadTransaction) -> Result<Vec<FeedStanding>, StoreError> {
    let table = match txn.open_table(FEEDS_TABLE) {
        Ok(table) => table,
        // Nothing was written since the table exists.
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    table
        .iter()?
        .map(|row| {
            let (key, value) = row?;
            let feed =
                decode_feed(key.value()).ok_or_else(|| damage(FEEDS, None, "a row has no feed's key"))?;
            Ok(standing(&feed, key.value(), value.value())?)
        })
        .collect()
}

/// Is this a row of the one table?
pub(super) fn judge_standing(key: &[u8], value: &[u8]) -> Result<(), Damage> {
    let feed = decode_feed(key).ok_or_else(|| damage(FEEDS, None, "a row has no feed's key"))?;
    standing(&feed, key, value).map(drop)
}

/// Is this a row of the other? The event that it names, if it names one.
pub(super) fn judge_answer(key: &[u8], value: &[u8]) -> Result<Sequence, Damage> {
    let of_feed = key.split_last_chunk::<8>().and_then(|(feed, _)| decode_feed(feed));
    of_feed.ok_or_else(|| damage(ANSWERS, None, "a row has no feed's key"))?;
    Ok(match decode_answer(key, value)?.1 {
        FeedAnswer::Given(answer) => answer.named(),
        FeedAnswer::PassedOver => Sequence::ZERO,
    })
}

/// Channel, length of the registrant's name, the name: no key begins another.
fn feed_key(feed: &Feed) -> Vec<u8> {
    let registrant = feed.registrant.as_str().as_bytes();
    let mut key = Vec::with_capacity(registrant.len() + 10);
    key.push(feed.channel.code());
    // NAME_BYTES_MAX fits a byte.
    key.push(registrant.len() as u8);
    key.extend_from_slice(registrant);
    key
}

fn decode_feed(key: &[u8]) -> Option<Feed> {
    let mut fields = Fields::new(key);
    let channel = Channel::from_code(fields.u8()?)?;
    let length = usize::from(fields.u8()?);
    let registrant = Registrant::stored(std::str::from_utf8(fields.bytes(length)?).ok()?).ok()?;
    fields.is_empty().then_some(Feed { channel, registrant })
}

fn answer_key(feed_key: &[u8], sequence: FeedSequence) -> Vec<u8> {
    let mut key = feed_key.to_vec();
    key.extend_from_slice(&sequence.value().to_be_bytes());
    key
}

fn standing(feed: &Feed, key: &[u8], value: &[u8]) -> Result<FeedStanding, Damage> {
    let read = || {
        let mut fields = Fields::new(unsealed(key, value)?);
        let last = FeedSequence::new(fields.u64()?)?;
        let taken_at = Stamp::from_seconds(fields.u32()?);
        fields.is_empty().then(|| FeedStanding { feed: feed.clone(), last, taken_at })
    };
    read().ok_or_else(|| damage(FEEDS, None, "where a feed stands is not readable"))
}

fn encode_answer(key: &[u8], fingerprint: &[u8; 32], answer: FeedAnswer) -> Vec<u8> {
    let mut value = Vec::with_capacity(48);
    value.extend_from_slice(fingerprint);
    match answer {
        FeedAnswer::PassedOver => value.push(0),
        FeedAnswer::Given(answer) => answer.put(&mut value),
    }
    seal(key, &mut value);
    value
}

fn decode_answer(key: &[u8], value: &[u8]) -> Result<([u8; 32], FeedAnswer), Damage> {
    let read = || {
        let mut fields = Fields::new(unsealed(key, value)?);
        let fingerprint = fields.array()?;
        let answer = match fields.u8()? {
            0 => FeedAnswer::PassedOver,
            code => FeedAnswer::Given(Answer::read(code, &mut fields)?),
        };
        fields.is_empty().then_some((fingerprint, answer))
    };
    read().ok_or_else(|| damage(ANSWERS, None, "a remembered answer is not readable"))
}

#[cfg(test)]
mod tests {
    use super::super::answer;
    use super::*;

    fn feed() -> Feed {
        let registrant = Registrant::new("Rejestr Dowodów Osobistych").expect("a name");
        Feed { channel: Channel::IdCardRegister, registrant }
    }

    #[test]
    fn answers_are_read_back_and_every_flipped_bit_and_cut_is_found() {
        let key = answer_key(&feed_key(&feed()), FeedSequence::FIRST);
        let given = answer::examples().into_iter().map(FeedAnswer::Given);
        for answer in given.chain([FeedAnswer::PassedOver]) {
            let value = encode_answer(&key, &[7; 32], answer);
            assert_eq!(decode_answer(&key, &value), Ok(([7; 32], answer)));
            for bit in 0..value.len() * 8 {
                let mut flipped = value.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(decode_answer(&key, &flipped).is_err(), "bit {bit}");
            }
            for length in 0..value.len() {
                assert!(decode_answer(&key, &value[..length]).is_err(), "cut at {length}");
            }
            let other = answer_key(&feed_key(&feed()), FeedSequence::FIRST.next());
            assert!(decode_answer(&other, &value).is_err(), "another message's row");
        }
    }

    #[test]
    fn keys_name_one_feed_and_none_begins_another() {
        let names = ["a", "aa", "b", "Rejestr PESEL"];
        let feeds = Channel::ALL.iter().flat_map(|channel| {
            names.map(|name| Feed { channel: *channel, registrant: Registrant::new(name).expect("a name") })
        });
        let keys: Vec<_> = feeds.map(|feed| (feed_key(&feed), feed)).collect();
        for (place, (key, feed)) in keys.iter().enumerate() {
            assert_eq!(decode_feed(key).as_ref(), Some(feed));
            let others = keys.iter().enumerate().filter(|(other, _)| *other != place);
            assert!(others.into_iter().all(|(_, (other, _))| !other.starts_with(key)));
        }
    }
}

//! Institutions that ask without a pause, and remember what they were told.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::client::{Caller, Reply};
use crate::harness::filing;

/// What one institution was told: identifier, number, reserved.
pub(crate) type Told = (String, String, bool);

/// Threads that ask until their connection ends.
pub(crate) struct Load {
    askers: Vec<JoinHandle<Vec<Told>>>,
    answered: Arc<AtomicUsize>,
}

impl Load {
    /// Begins to ask about these numbers over this many connections: single
    /// questions, and a batch now and then.
    pub(crate) fn start(
        address: SocketAddr,
        key: &str,
        numbers: &Arc<Vec<String>>,
        connections: usize,
    ) -> Self {
        let answered = Arc::new(AtomicUsize::new(0));
        let askers = (0..connections)
            .map(|place| {
                let (answered, numbers) = (Arc::clone(&answered), Arc::clone(numbers));
                let mut caller = Caller::new(address, key);
                std::thread::spawn(move || {
                    let mut told = Vec::new();
                    for turn in place.. {
                        let new = if turn % 7 == 0 {
                            ask_batch(&mut caller, &numbers, turn)
                        } else {
                            ask_one(&mut caller, &numbers[turn * 31 % numbers.len()])
                        };
                        let Some(new) = new else { break };
                        answered.fetch_add(new.len(), Ordering::Relaxed);
                        told.extend(new);
                    }
                    told
                })
            })
            .collect();
        Self { askers, answered }
    }

    /// Numbers answered so far, all connections together.
    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Everything told, once all connections have ended.
    pub(crate) fn told(self) -> Vec<Told> {
        self.askers.into_iter().flat_map(|asker| asker.join().expect("an asker")).collect()
    }
}

/// `None` when the connection ended, or a refusal ended the asking.
fn ask_one(caller: &mut Caller, pesel: &str) -> Option<Vec<Told>> {
    let reply = caller.try_call("POST", "/v1/verify", &[], Some(&json!({ "pesel": pesel }))).ok()?;
    (reply.status == 200).then(|| vec![told(&reply.json(), pesel)])
}

fn ask_batch(caller: &mut Caller, numbers: &[String], turn: usize) -> Option<Vec<Told>> {
    let asked: Vec<&String> = numbers.iter().cycle().skip(turn % numbers.len()).take(20).collect();
    let reply = caller.try_call("POST", "/v1/verify/batch", &[], Some(&json!({ "pesels": asked }))).ok()?;
    if reply.status != 200 {
        return None;
    }
    let answer = reply.json();
    let id = answer["verification_id"].as_str().expect("an identifier");
    let results = answer["results"].as_array().expect("results").iter().zip(asked);
    let told = results.map(|(result, pesel)| {
        (id.to_owned(), pesel.clone(), result["reserved"].as_bool().expect("an answer"))
    });
    Some(told.collect())
}

fn told(answer: &Value, pesel: &str) -> Told {
    let id = answer["verification_id"].as_str().expect("an identifier");
    (id.to_owned(), pesel.to_owned(), answer["reserved"].as_bool().expect("an answer"))
}

/// Fails unless all that was told is on the trail, as it was told.
pub(crate) fn assert_on_record(told: &[Told], dump: &[Value]) {
    let mut recorded: HashMap<(&str, &str), bool> = HashMap::new();
    for line in dump {
        let text = |name: &str| line[name].as_str().expect("a text");
        recorded.insert((text("verification_id"), text("pesel")), line["reserved"] == true);
    }
    for (id, pesel, reserved) in told {
        let found = recorded.get(&(id.as_str(), pesel.as_str()));
        assert_eq!(found, Some(reserved), "{id} was answered {reserved} and is recorded as {found:?}");
    }
}

/// Files reservations one after another until the connection ends; the numbers
/// that got their 201.
pub(crate) fn reserve_on(
    address: SocketAddr,
    token: &str,
    numbers: impl Iterator<Item = String> + Send + 'static,
) -> JoinHandle<Vec<String>> {
    let mut admin = Caller::new(address, token);
    std::thread::spawn(move || {
        let mut reserved = Vec::new();
        for pesel in numbers {
            let reply = admin.try_call("POST", "/admin/v1/reservations", &[], Some(&filing(&pesel)));
            match reply {
                Ok(reply) if reply.status == 201 => reserved.push(pesel),
                Ok(reply) => panic!("{} {}", reply.status, reply.text()),
                Err(_) => break,
            }
        }
        reserved
    })
}

/// A change as it was asked for.
#[derive(Debug)]
pub(crate) struct Filing {
    path: &'static str,
    body: Value,
    key: String,
}

/// What one office filed until its connection ended.
#[derive(Default)]
pub(crate) struct Filed {
    /// The events of its 201s, in order.
    pub(crate) told: Vec<Value>,
    /// The last one, when it was sent and not answered.
    pub(crate) in_doubt: Option<Filing>,
}

impl Filing {
    pub(crate) fn send(&self, admin: &mut Caller) -> io::Result<Reply> {
        admin.try_call("POST", self.path, &[("idempotency-key", &self.key)], Some(&self.body))
    }
}

/// Files changes of every kind about these numbers until the connection ends:
/// each is reserved, some are withdrawn for good, some for a time.
pub(crate) fn file_on(
    address: SocketAddr,
    token: &str,
    numbers: impl Iterator<Item = String> + Send + 'static,
    until: String,
) -> JoinHandle<Filed> {
    let mut admin = Caller::new(address, token);
    std::thread::spawn(move || {
        let mut filed = Filed::default();
        for (place, pesel) in numbers.enumerate() {
            let mut changes = vec![("/admin/v1/reservations", filing(&pesel))];
            if place % 3 > 0 {
                let mut withdrawal = filing(&pesel);
                if place % 3 == 2 {
                    withdrawal["reserve_again_at"] = json!(until);
                }
                changes.push(("/admin/v1/withdrawals", withdrawal));
            }
            for (path, body) in changes {
                let filing = Filing { path, key: format!("{pesel} {path}"), body };
                match filing.send(&mut admin) {
                    Ok(reply) if reply.status == 201 => filed.told.push(reply.json()),
                    Ok(reply) => panic!("{} {}", reply.status, reply.text()),
                    Err(_) => {
                        filed.in_doubt = Some(filing);
                        return filed;
                    }
                }
            }
        }
        filed
    })
}

//! Numbers, keys and tokens that are known to the test, used rightly and
//! wrongly in a whole run at the loudest log level: they come up nowhere.

use std::fs;

use http::Method;
use serde_json::json;

use crate::client::{Caller, Connection, Reply};
use crate::harness::{fictional, filing, issue, wait_for};
use crate::http2::{Http2, block_on};
use crate::serve::Served;

/// What must never be seen, in whole or in its secret part.
struct Canaries(Vec<String>);

impl Canaries {
    fn search(&self, place: &str, text: &str) {
        for (nth, canary) in self.0.iter().enumerate() {
            assert!(!text.contains(canary.as_str()), "canary {nth} is in {place}");
        }
    }
}

/// Who is known, who is not, and about whom they ask.
struct Cast {
    operator: String,
    source: String,
    key_id: String,
    key: String,
    /// A key that may be used from elsewhere only.
    away: String,
    /// Well-formed but for its checksum.
    forged: String,
    numbers: Vec<String>,
}

const WRONG: &str = "44051401358";

impl Cast {
    fn new(served: &Served) -> Self {
        let mut admin = served.admin();
        let (key_id, key) = issue(&mut admin, "Bank", &["127.0.0.0/8"], None);
        let (_, away) = issue(&mut admin, "Bank Daleki", &["10.0.0.0/8"], None);
        Self {
            operator: served.token(),
            source: served.source_token("e-service"),
            forged: format!("{}aaaaaaaaaaaa", &key[..key.len() - 12]),
            numbers: (0..8).map(|place| fictional(200_000_000 + place * 12_345)).collect(),
            key_id,
            key,
            away,
        }
    }

    fn canaries(&self) -> Canaries {
        let secret =
            |credential: &String| credential[credential.len() - 40..credential.len() - 13].to_owned();
        let secrets = [&self.operator, &self.source, &self.key, &self.away].map(secret);
        Canaries([&self.numbers[..], &secrets, &[WRONG.to_owned()]].concat())
    }
}

/// Every refusal that was got, as it came.
#[derive(Default)]
struct Refusals(String);

impl Refusals {
    fn note(&mut self, reply: &Reply) {
        assert!(reply.status >= 400, "{}", reply.text());
        self.0 += &format!("{:?} {}\n", reply.headers, reply.text());
    }
}

fn ask(served: &Served, cast: &Cast, refusals: &mut Refusals) {
    let good = &cast.numbers;
    let mut caller = Caller::new(served.instance.verification, &cast.key);
    caller.verify(&good[0]).good();
    caller.post("/v1/verify/batch", &json!({"pesels": [good[0], good[1]], "reference": "r"})).good();
    caller.stream(&format!("\"{}\"\n{}\n{{\"pesel\":\"{WRONG}\"}}\n", good[2], good[3]));
    refusals.note(&caller.verify(WRONG));
    for body in [
        json!({"pesel": good[3], good[4].clone(): 1}),
        json!({"pesel": good[3], "at": good[4]}),
        json!({"pesel": good[3], "at": "2199-01-01T00:00:00Z"}),
        json!({"pesel": good[7].parse::<u64>().expect("a number")}),
    ] {
        refusals.note(&caller.post("/v1/verify", &body));
    }
    for path in ["/v1/", "/v1/verify?pesel=", "/v1/verifications/"] {
        refusals.note(&caller.get(&format!("{path}{}", good[5])));
    }
    let hidden = [("x-request-id", good[6].as_str()), ("x-pesel", &good[6]), ("x-key", &cast.key)];
    refusals.note(&caller.try_call("GET", "/v1/none", &hidden, None).expect("an answer"));
    for credential in [&cast.operator, &cast.source, &cast.forged, &cast.away] {
        refusals.note(&Caller::new(served.instance.verification, credential).verify(&good[0]));
    }
    // A head that is none, with a number and a key in it.
    let mut broken = Connection::open(served.instance.verification).expect("a connection");
    broken.write(format!("GET /{} {}\r\n\r\n", good[5], cast.key).as_bytes()).expect("written");
    refusals.note(&broken.read(false).expect("an answer"));
}

fn file(served: &Served, cast: &Cast, refusals: &mut Refusals) {
    let good = &cast.numbers;
    for credential in [&cast.key, &cast.forged] {
        refusals.note(&Caller::new(served.instance.admin, credential).get("/admin/v1/keys"));
    }
    let mut source = Caller::new(served.instance.admin, &cast.source);
    source.post("/admin/v1/reservations", &filing(&good[0])).good();
    for body in [filing(&good[0]), filing(WRONG), json!({"pesel": good[1], good[2].clone(): cast.key})] {
        refusals.note(&source.post("/admin/v1/reservations", &body));
    }
    refusals.note(&source.get(&format!("/admin/v1/{}", good[5])));
    refusals.note(&source.get(&format!("/admin/v1/events?after={}x", good[5])));
    let mut withdraw = |pesel: &str| {
        let idempotent = [("idempotency-key", good[6].as_str())];
        source
            .try_call("POST", "/admin/v1/withdrawals", &idempotent, Some(&filing(pesel)))
            .expect("an answer")
    };
    withdraw(&good[0]).good();
    refusals.note(&withdraw(&good[1]));
    let deactivate = format!("/admin/v1/keys/{}/deactivate", cast.key_id);
    served.admin().post(&deactivate, &json!({})).good();
    refusals.note(&Caller::new(served.instance.verification, &cast.key).verify(&good[0]));
}

#[test]
fn no_number_and_no_secret_shows_anywhere() {
    let served = Served::start("test", "", "[log]\nlevel = \"trace\"\nformat = \"text\"");
    let cast = Cast::new(&served);
    let (canaries, mut refusals) = (cast.canaries(), Refusals::default());
    ask(&served, &cast, &mut refusals);
    over_http2(&served, &cast);
    file(&served, &cast, &mut refusals);

    canaries.search("a refusal", &refusals.0);
    canaries.search("the metrics", &served.instance.metrics());
    let process = format!("/proc/{}", served.instance.pid().as_raw_nonzero());
    for file in ["cmdline", "environ"] {
        if let Ok(bytes) = fs::read(format!("{process}/{file}")) {
            canaries.search(file, &String::from_utf8_lossy(&bytes));
        }
    }
    let (stdout, stderr) = (served.instance.stdout.clone(), served.instance.stderr.clone());
    wait_for("a loud log", || served.instance.stderr().contains("TRACE").then_some(()));
    wait_for("a log of ours", || served.instance.stderr().contains("key deactivated").then_some(()));
    served.instance.stop();
    for file in [stdout, stderr] {
        let text = String::from_utf8_lossy(&fs::read(&file).expect("an output")).into_owned();
        canaries.search(&file.to_string_lossy(), &text);
    }
}

/// The library of HTTP/2 has a loud log of its own.
fn over_http2(served: &Served, cast: &Cast) {
    block_on(async {
        let mut http2 = Http2::open(served.instance.verification).await;
        let bearer = format!("Bearer {}", cast.away);
        let headers = [("authorization", bearer.as_str()), ("x-pesel", cast.numbers[6].as_str())];
        let body = json!({"pesel": cast.numbers[0]}).to_string();
        let path = format!("/v1/{}", cast.numbers[5]);
        for path in ["/v1/verify", &path] {
            let reply = http2.ask(Method::POST, path, &headers, &body).await.expect("an answer");
            assert!(reply.status >= 400);
        }
    });
}

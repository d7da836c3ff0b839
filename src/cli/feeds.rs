//! `feeds`: where each feed stands.

use clap::Args;
use http::Method;
use serde::Deserialize;

use super::args::AdminArgs;
use super::change::tell;
use super::client::Client;
use super::error::{CliError, Exit};
use super::table::aligned;
use super::words::Lang;
use crate::clock::Moment;

pub(super) const EXIT_FEEDS: &str = "Exit status: 0 shown, 1 refused, 2 not done.\n\n\
    A feed is there from its first message on; a source sees its own.";

#[derive(Debug, Args)]
pub(crate) struct FeedsArgs {
    /// The language of the table.
    #[arg(long, value_enum, default_value = "pl")]
    pub(crate) lang: Lang,
    /// Print the gateway's answer as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Deserialize)]
struct Feeds {
    feeds: Vec<Feed>,
}

#[derive(Deserialize)]
struct Feed {
    channel: String,
    registrant: String,
    last_sequence: u64,
    moment: Moment,
}

pub(super) async fn run(args: &FeedsArgs, client: &Client) -> Result<Exit, CliError> {
    let answer = client.json(Method::GET, "/admin/v1/feeds", None).await;
    tell(answer, args.lang, args.json, Feeds::text)
}

impl Feeds {
    fn text(&self, lang: Lang) -> String {
        if self.feeds.is_empty() {
            return lang
                .pick("Żadne źródło nie przysłało jeszcze wiadomości.", "no source has sent a message yet")
                .to_owned();
        }
        let head = [
            lang.pick("KANAŁ", "CHANNEL"),
            lang.pick("PODMIOT REJESTRUJĄCY", "REGISTRANT"),
            lang.pick("OSTATNIA WIADOMOŚĆ", "LAST MESSAGE"),
            lang.pick("CHWILA PRZYJĘCIA", "TAKEN AT"),
        ];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.feeds.iter().map(|feed| feed.row(lang)));
        aligned(&rows)
    }
}

impl Feed {
    fn row(&self, lang: Lang) -> [String; 4] {
        // A name with a control character must not reach a terminal.
        let shown = |text: &str| text.replace(char::is_control, " ");
        [
            shown(lang.channel(&self.channel)),
            shown(&self.registrant),
            self.last_sequence.to_string(),
            self.moment.in_poland(),
        ]
    }
}

//! What commands say to people, in Polish or in English. Programs read codes and JSON
//! instead.

use super::refusal::Refusal;
use crate::clock::Moment;
use crate::pesel::PeselError;

/// The language of sentences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Lang {
    /// polski
    Pl,
    /// English
    En,
}

impl Lang {
    /// Why the gateway refused.
    pub(crate) fn refusal(self, refusal: &Refusal) -> String {
        let polish = || match (self, &refusal.request_id) {
            (Self::Pl, Some(id)) => Some(format!("{} Identyfikator żądania: {id}.", polish(refusal)?)),
            (Self::Pl, None) => polish(refusal),
            (Self::En, _) => None,
        };
        let from = refusal.allowed_from.map(Moment::in_poland);
        polish().unwrap_or_else(|| match from {
            Some(from) => format!("{refusal}; allowed from {from}"),
            None => refusal.to_string(),
        })
    }

    /// Why a text is no PESEL; the text itself is not repeated.
    pub(crate) fn invalid_pesel(self, error: PeselError) -> String {
        match self {
            Self::Pl => format!("To nie jest prawidłowy numer PESEL: {}.", polish_reason(error.reason())),
            Self::En => format!("invalid-pesel: {error}"),
        }
    }

    /// What an event did.
    pub(crate) fn kind(self, kind: &str) -> &str {
        match (self, kind) {
            (Self::Pl, "reservation") => "zastrzeżenie",
            (Self::Pl, "withdrawal") => "cofnięcie zastrzeżenia",
            (Self::Pl, "renumbering") => "zmiana numeru PESEL",
            (_, other) => other,
        }
    }

    /// The way an event came in.
    pub(crate) fn channel(self, channel: &str) -> &str {
        match (self, channel) {
            (Self::Pl, "e-service") => "usługa elektroniczna",
            (Self::Pl, "gmina") => "urząd gminy",
            (Self::Pl, "bank") => "bank",
            (Self::Pl, "skok") => "SKOK",
            (Self::Pl, "post") => "operator pocztowy",
            (Self::Pl, "id-card-register") => "z urzędu: Rejestr Dowodów Osobistych",
            (Self::Pl, "pesel-register") => "z urzędu: rejestr PESEL",
            (_, other) => other,
        }
    }

    /// One of two texts.
    pub(crate) const fn pick<'a>(self, polish: &'a str, english: &'a str) -> &'a str {
        match self {
            Self::Pl => polish,
            Self::En => english,
        }
    }
}

/// The sentence for a code; `None` for one that an official does not meet.
fn polish(refusal: &Refusal) -> Option<String> {
    let from = || refusal.allowed_from.map_or_else(String::new, |from| format!(" od {}", from.in_poland()));
    let text = match refusal.code.as_str() {
        "already-reserved" => "Numer PESEL jest już zastrzeżony.",
        "not-reserved" => "Numer PESEL nie jest zastrzeżony, więc nie można cofnąć zastrzeżenia.",
        "filing-too-soon" => {
            let from = from();
            return Some(format!(
                "Od cofnięcia zastrzeżenia nie minęło jeszcze 30 minut. Numer PESEL można zastrzec{from}."
            ));
        }
        "re-reservation-too-soon" => {
            let from = from();
            return Some(format!(
                "Od cofnięcia do ponownego zastrzeżenia musi minąć co najmniej 30 minut. Wybierz chwilę{from}."
            ));
        }
        "channel-may-not-withdraw" => {
            "Tym kanałem można zastrzec numer PESEL, ale nie można cofnąć zastrzeżenia."
        }
        "applicant-may-not-withdraw" => {
            "Pełnomocnik może zastrzec numer PESEL, ale nie może cofnąć zastrzeżenia."
        }
        "applicant-needs-gmina" => {
            "Opiekun, kurator i pełnomocnik mogą złożyć wniosek tylko w urzędzie gminy."
        }
        "obstacle-required" => {
            "Pełnomocnik może złożyć wniosek tylko z powodu choroby, niepełnosprawności albo innej przeszkody: \
             podaj ją (--obstacle)."
        }
        "temporary-withdrawal-by-e-service-only" => {
            "Zastrzeżenie można cofnąć czasowo tylko w usłudze elektronicznej."
        }
        "not-of-age" => "Zastrzec można tylko numer PESEL osoby pełnoletniej.",
        "invalid-pesel" => "To nie jest prawidłowy numer PESEL.",
        "unauthenticated" | "malformed-key" => "Token jest nieprawidłowy albo został wyłączony.",
        "wrong-environment" => "Token należy do innego środowiska (testowego albo produkcyjnego).",
        "invalid-value" => {
            return Some(match refusal.field.as_deref() {
                Some("registrant") => {
                    "Nazwa podmiotu rejestrującego (--registrant) powinna mieć od 1 do 200 \
                                       bajtów, bez znaków sterujących i bez odstępów na początku i na końcu."
                        .to_owned()
                }
                Some("reserve_again_at") => {
                    "Podanej chwili ponownego zastrzeżenia (--until) nie można przyjąć.".to_owned()
                }
                Some(field) => format!("Podanej wartości nie można przyjąć: {field}."),
                None => "Jednej z podanych wartości nie można przyjąć.".to_owned(),
            });
        }
        "rate-limited" => {
            let seconds = refusal.retry_after.map_or(1, |after| after.as_secs().max(1));
            return Some(format!("Za dużo nieudanych prób z tego adresu. Spróbuj ponownie za {seconds} s."));
        }
        "forbidden" if !refusal.roles.is_empty() => {
            let roles = refusal.roles.join(" albo ");
            return Some(format!(
                "Ten token nie uprawnia do tej czynności: potrzebny jest token z rolą {roles}."
            ));
        }
        "forbidden" => "Ten token nie uprawnia do tej czynności w imieniu podanego podmiotu i kanału.",
        "register-unavailable" => {
            "Rejestr jest niedostępny i nie potwierdził zmiany. Sprawdź wpis, zanim spróbujesz ponownie."
        }
        "overloaded" | "draining" => {
            "Usługa jest chwilowo niedostępna, zmiany nie zapisano. Spróbuj za chwilę."
        }
        _ => return None,
    };
    Some(text.to_owned())
}

fn polish_reason(reason: &str) -> &'static str {
    match reason {
        "length" => "powinien mieć 11 cyfr",
        "digit" => "może składać się tylko z cyfr",
        "date" => "nie zawiera daty urodzenia, która istnieje",
        _ => "nie zgadza się cyfra kontrolna",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::Refusal as Law;

    #[test]
    fn every_refusal_of_the_law_has_a_polish_sentence() {
        let allowed_from = Moment::parse("2026-07-01T10:00:00Z").expect("a moment");
        let refusals = [
            Law::AlreadyReserved,
            Law::NotReserved,
            Law::FilingTooSoon { allowed_from },
            Law::ChannelMayNotWithdraw,
            Law::ApplicantMayNotWithdraw,
            Law::ApplicantNeedsGmina,
            Law::ObstacleRequired,
            Law::TemporaryWithdrawalByEServiceOnly,
            Law::ReReservationTooSoon { allowed_from },
            Law::NotOfAge,
        ];
        for law in refusals {
            let refusal = Refusal::of_test(law.code(), law.allowed_from());
            let polish = Lang::Pl.refusal(&refusal);
            assert!(polish.ends_with('.') && !polish.contains(law.code()), "{polish}");
            let english = Lang::En.refusal(&refusal);
            assert!(english.starts_with(law.code()));
            for text in [polish, english] {
                let is_shown = text.contains("2026-07-01 12:00:00 (+02:00)");
                assert_eq!(is_shown, law.allowed_from().is_some(), "{text}");
            }
        }
    }
}

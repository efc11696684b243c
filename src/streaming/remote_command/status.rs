//! What a client is told at the end: the `Status` object of Kubernetes, or plain words.

use serde_json::{Value, json};

use crate::streaming::channel::{Closed, Outgoing};

/// How a version of the protocol tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Versions before 4: words when something failed, else nothing.
    Words,
    /// From version 4 on: JSON, in which clients find the exit code.
    Json,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It ended with this code.
    Exited(i32),
    /// It did not run, or nobody knows what became of it.
    Failed(String),
}

impl Outcome {
    fn words(&self) -> Option<String> {
        match self {
            Outcome::Exited(0) => None,
            Outcome::Exited(code) => {
                Some(format!("command terminated with non-zero exit code: exit status {code}"))
            }
            Outcome::Failed(reason) => Some(format!("Internal error occurred: {reason}")),
        }
    }

    fn json(&self) -> Value {
        let message = self.words();
        match self {
            Outcome::Exited(0) => json!({ "metadata": {}, "status": "Success" }),
            Outcome::Exited(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": message,
                "reason": "NonZeroExitCode",
                "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
            }),
            Outcome::Failed(reason) => json!({
                "metadata": {},
                "status": "Failure",
                "message": message,
                "reason": "InternalError",
                "details": { "causes": [{ "message": reason }] },
                "code": 500,
            }),
        }
    }
}

/// The stream that the outcome is told on.
pub struct Reporter {
    outgoing: Outgoing,
    format: Format,
    /// Our halves of the streams that only the client writes to.
    ends: Vec<Outgoing>,
}

impl Reporter {
    pub(super) fn new(outgoing: Outgoing, format: Format, ends: Vec<Outgoing>) -> Self {
        Self { outgoing, format, ends }
    }

    pub(super) async fn greet(&self) -> Result<(), Closed> {
        self.outgoing.send(&mut "".into()).await
    }

    /// Tells the outcome.
    pub async fn report(self, outcome: &Outcome) {
        let text = match self.format {
            Format::Words => outcome.words().unwrap_or_default(),
            Format::Json => outcome.json().to_string(),
        };
        self.outgoing.send_last(&text).await;
        for end in self.ends {
            end.reset().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn clients_find_the_exit_code() {
        let json = Outcome::Exited(137).json();
        assert_eq!(json["reason"], "NonZeroExitCode");
        assert_eq!(json["details"]["causes"][0]["reason"], "ExitCode");
        assert_eq!(json["details"]["causes"][0]["message"], "137");
        assert_eq!(Outcome::Exited(0).json()["status"], "Success");
        assert_eq!(Outcome::Exited(0).words(), None);
        let failed = Outcome::Failed("no such file".to_owned());
        assert_eq!(failed.json()["code"], 500);
        assert_eq!(failed.words().unwrap(), "Internal error occurred: no such file");
    }
}

//! Logs: what is written, how it looks, and the names of its fields. Always to standard error.
//!
//! Never makes a request wait: lines go to [`sink`], which writes them behind everybody's back. Reads no
//! environment; `RUST_LOG` arrives as a value.

use std::fmt;

use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Log, LogFormat};

pub mod sink;

/// Names of fields that several places write, so that one query finds them all. For
/// `info!({ field::PATH } = %key, "…")`.
pub mod field {
    /// Address that HTTP is served on.
    pub const LISTEN: &str = "listen";
    /// Address that health and metrics are served on.
    pub const OPS_LISTEN: &str = "ops_listen";
    /// Whether that address speaks TLS.
    pub const TLS: &str = "tls";
    /// The store, as people write it.
    pub const STORE: &str = "store";
    /// Who may write.
    pub const WRITERS: &str = "writers";
    /// A request's id, as it is answered in `x-request-id`.
    pub const REQUEST_ID: &str = "request_id";
    /// Its method.
    pub const METHOD: &str = "method";
    /// Its path, without the query.
    pub const PATH: &str = "path";
    /// The status of its answer.
    pub const STATUS: &str = "status";
    /// What came of it, as in the metrics.
    pub const OUTCOME: &str = "outcome";
    /// Bytes of the answer's body that were sent.
    pub const SENT_BYTES: &str = "sent_bytes";
    /// Time from its head to the end of its answer, in microseconds.
    pub const TOOK_US: &str = "took_us";
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directives of `RUST_LOG` are not in the filter's words.
    #[error("RUST_LOG is no list of directives such as larder=debug,hyper=info: {0}")]
    Directives(#[from] ParseError),
    /// This process logs already.
    #[error("a logger is set already")]
    Twice,
    /// The thread that writes lines did not start.
    #[error("the thread that writes the log did not start")]
    Thread(#[from] std::io::Error),
}

/// The directives for so many steps of `-v` (or of `-q`, below zero), as `tracing`'s filter reads them.
///
/// Libraries speak up one or two steps later than Larder does: what they say of each connection drowns the rest.
fn base(verbosity: i16) -> String {
    let (ours, theirs) = match verbosity {
        ..=-3 => ("off", "off"),
        -2 => ("error", "error"),
        -1 => ("warn", "warn"),
        0 => ("info", "warn"),
        1 => ("debug", "warn"),
        2 => ("trace", "info"),
        3.. => ("trace", "trace"),
    };
    let mut text = ours.to_owned();
    // A directive's target is the beginning of a name: `aws` is every crate of the SDK.
    for target in ["aws", "h2", "hyper", "rustls", "tower"] {
        text.push_str(&format!(",{target}={theirs}"));
    }
    text
}

fn filter(log: &Log) -> Result<EnvFilter, ParseError> {
    let mut text = base(log.verbosity);
    if let Some(directives) = log.directives.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
        // Of two directives for one target the later holds.
        text.push(',');
        text.push_str(directives);
    }
    EnvFilter::builder().parse(text)
}

fn subscriber<W>(log: &Log, writer: W) -> Result<Box<dyn Subscriber + Send + Sync>, ParseError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = filter(log)?;
    let common = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    Ok(match log.format {
        LogFormat::Text { colour } => Box::new(common.with_ansi(colour).with_target(false).finish()),
        LogFormat::Json => Box::new(common.json().flatten_event(true).with_span_list(false).finish()),
    })
}

/// Lets this process log. Lines that are not yet written when the guard goes are written then, for a second at
/// most.
pub fn init(log: &Log) -> Result<Guard, Error> {
    // The filter is read first: bad directives must not leave a thread behind.
    filter(log)?;
    let sink = sink::Sink::start(std::io::stderr(), matches!(log.format, LogFormat::Json))?;
    let subscriber = subscriber(log, sink.clone())?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| Error::Twice)?;
    Ok(Guard { sink })
}

/// Keeps the log open; see [`init`].
#[must_use = "the last lines are lost where nobody holds it"]
pub struct Guard {
    sink: sink::Sink,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.sink.close();
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("telemetry::Guard")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, verbosity: i16, directives: Option<&str>) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = Log { format, verbosity, directives: directives.map(str::to_owned) };
        let subscriber = subscriber(&log, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!({ field::PATH } = "a/b", { field::STATUS } = 200, "stored");
            tracing::debug!("detail");
            tracing::info!(target: "aws_sdk_s3::x", "noise");
            tracing::warn!(target: "hyper_util::y", "trouble");
        });
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_lines_are_flat_objects() {
        let text = logged(LogFormat::Json, 0, None);
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(first["message"], "stored");
        assert_eq!(first["path"], "a/b");
        assert_eq!(first["status"], 200);
        assert_eq!(first["level"], "INFO");
        assert!(first["timestamp"].is_string());
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn steps_and_directives_decide_what_is_said() {
        let text = |verbosity, directives| logged(LogFormat::Text { colour: false }, verbosity, directives);
        let usual = text(0, None);
        assert!(usual.contains("stored") && usual.contains("trouble"), "{usual}");
        assert!(!usual.contains("noise") && !usual.contains("detail"), "{usual}");
        assert!(!usual.contains('\u{1b}'), "{usual}");
        assert!(text(1, None).contains("detail"));
        assert!(text(2, None).contains("noise"));
        assert!(!text(-1, None).contains("stored"));
        assert_eq!(text(-3, None), "");
        assert!(text(0, Some("aws=info")).contains("noise"));
        assert!(!text(0, Some("error")).contains("stored"));
    }

    #[test]
    fn bad_directives_are_refused() {
        let log = Log { format: LogFormat::Json, verbosity: 0, directives: Some("a=b=c".into()) };
        assert!(filter(&log).is_err());
    }
}

//! Logs of the roles, on stderr: for people, or one JSON object a line.

use tracing_subscriber::EnvFilter;

/// How lines of the log are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogForm {
    Text,
    /// One JSON object a line.
    Json,
}

/// Begins to log. `filter` is in the form of `tracing_subscriber`'s `EnvFilter`, such as `info,isthmus=debug`; one that
/// cannot be read is said and ignored. Control characters in logged values are escaped by the subscriber.
pub fn begin(form: LogForm, filter: Option<&str>) {
    let usual = || EnvFilter::new("info,kube_client=warn,hyper=warn,h2=warn,rustls=warn,tower=warn");
    let (filter, broken) = match filter.map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (usual(), Some(error)),
        None => (usual(), None),
    };
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi);
    let begun = match form {
        LogForm::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
        LogForm::Text => builder.with_target(false).try_init(),
    };
    if let Some(reason) = broken {
        tracing::warn!(
            reason = reason.to_string(),
            "cannot read the log filter of ISTHMUS_LOG_FILTER, so the usual one is in effect"
        );
    }
    // a second role in the same process logs where the first does
    drop(begun);
}

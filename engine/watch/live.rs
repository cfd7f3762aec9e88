//! The table of a watch on a terminal: clusters and how their links are, what needs someone first. Nothing of it in pipes.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::pipeline::Program;
use crate::pipeline::plan::Plan;
use crate::report::health::{Health, HealthJudge, StatusRow};
use crate::report::text::table;
use crate::types::name::ClusterName;
use crate::types::text::{cut, visible_but_styles};
use crate::types::time::Timestamp;
use crate::watch::contacts::Contacts;

/// Rows that are left to what is printed above and below.
const KEPT_ROWS: usize = 7;
/// Rows where the terminal does not tell its height.
const USUAL_HEIGHT: usize = 24;
/// Longest note of a row, in characters.
const LONGEST_NOTE: usize = 72;

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

fn style(health: Health) -> Style {
    match health {
        Health::Broken => AnsiColor::Red.on_default(),
        Health::AtRisk | Health::Waiting | Health::Leaving => AnsiColor::Yellow.on_default(),
        Health::Paused => DIM,
        Health::Joined => AnsiColor::Green.on_default(),
    }
}

pub(super) struct Live {
    bar: Option<ProgressBar>,
    title: String,
    rows: Vec<StatusRow>,
    read_at: BTreeMap<ClusterName, Timestamp>,
    reconciled_at: Timestamp,
    /// What the next run waits for.
    waiting: Option<String>,
}

impl Live {
    pub(super) fn new(hidden: bool) -> Self {
        let shown = !hidden && std::io::stderr().is_terminal();
        let bar = shown.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
            bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar
        });
        Self {
            bar,
            title: String::new(),
            rows: Vec::new(),
            read_at: BTreeMap::new(),
            reconciled_at: Timestamp::EPOCH,
            waiting: None,
        }
    }

    /// Whether there is a terminal to draw on.
    pub(super) fn is_shown(&self) -> bool {
        self.bar.is_some()
    }

    /// Runs something that prints, without the table in its way.
    pub(super) fn hide(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    pub(super) fn asked(&mut self, contacts: &Contacts) {
        self.read_at.clone_from(&contacts.read_at);
    }

    /// The next run waits for this, or for nothing any more.
    pub(super) fn waits(&mut self, waiting: Option<String>, now: Timestamp) {
        if self.waiting != waiting {
            self.waiting = waiting;
            self.redraw(now);
        }
    }

    /// A run was taken.
    pub(super) fn reconciled(&mut self, program: &Program, plan: &Plan, contacts: &Contacts, now: Timestamp) {
        if self.bar.is_none() {
            return;
        }
        self.asked(contacts);
        self.reconciled_at = now;
        let clusters = program.mesh.clusters.len();
        self.title = format!("mesh {} · {clusters} cluster{}", program.mesh.name, if clusters == 1 { "" } else { "s" });
        // the run that has just been taken wrote the secrets that were missing, or its plan says why it did not
        self.rows = HealthJudge::new(&program.mesh, &program.lock, Some(plan), now).rows(&|_, _| true);
        self.redraw(now);
    }

    pub(super) fn redraw(&mut self, now: Timestamp) {
        let Some(bar) = &self.bar else { return };
        let height = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(USUAL_HEIGHT, |size| size.ws_row.into());
        let most = height.saturating_sub(KEPT_ROWS).max(1);
        let ago = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), |at| ago_text(now.since(at)));
        let cells = self.rows.iter().take(most).map(|row| {
            [
                row.name.to_string(),
                row.health.word().to_owned(),
                format!("{}/{}", row.joined, row.links),
                ago(self.read_at.get(&row.name).copied()),
                cut(&row.note, LONGEST_NOTE).into_owned(),
            ]
        });
        let text = table(&["CLUSTER", "STATE", "JOINED", "READ", ""], cells.collect());
        let mut lines = text.lines();
        let mut drawn = format!(
            "\n{BOLD}{}{BOLD:#} {DIM}· last run {}{DIM:#}\n",
            self.title,
            ago_text(now.since(self.reconciled_at))
        );
        if let Some(waiting) = &self.waiting {
            let style = style(Health::Waiting);
            drawn.push_str(&format!("{style}{waiting}{style:#}\n"));
        }
        drawn.push_str(&format!("{DIM}{}{DIM:#}\n", lines.next().unwrap_or_default()));
        for (row, line) in self.rows.iter().zip(lines) {
            // the word is coloured in its place, so that the columns stay aligned
            let (word, style) = (row.health.word(), style(row.health));
            drawn.push_str(&line.replacen(word, &format!("{style}{word}{style:#}"), 1));
            drawn.push('\n');
        }
        if self.rows.len() > most {
            let rest = self.rows.get(most..).unwrap_or_default();
            let joined = rest.iter().filter(|row| row.health == Health::Joined).count();
            drawn.push_str(&format!("{DIM}… {} more, {joined} of them joined{DIM:#}\n", rest.len()));
        }
        bar.set_message(visible_but_styles(&drawn).into_owned());
        bar.tick();
    }
}

fn ago_text(ago: Duration) -> String {
    match ago.as_secs() {
        seconds @ 0..120 => format!("{seconds} s ago"),
        seconds @ 120..7200 => format!("{} min ago", seconds / 60),
        seconds => format!("{} h ago", seconds / 3600),
    }
}

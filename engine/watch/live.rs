//! The table of a watch on a terminal: clusters and how their links are, what needs somebody first. Nothing of it in pipes.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::model::lock::Stage;
use crate::model::mesh::State;
use crate::pipeline::Program;
use crate::pipeline::plan::{Plan, StepStanding};
use crate::report::text::table;
use crate::types::name::ClusterName;
use crate::types::text::visible_but_styles;
use crate::watch::contacts::Contacts;

/// Rows that are left to what is printed above and below.
const KEPT_ROWS: usize = 6;
/// Rows where the terminal does not tell its height.
const USUAL_HEIGHT: usize = 24;
/// Longest note of a row, in characters.
const LONGEST_NOTE: usize = 72;

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

/// How a cluster is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    Refused,
    Failed,
    Waiting,
    Leaving,
    Paused,
    Well,
}

impl Health {
    fn word(self) -> &'static str {
        match self {
            Self::Refused => "held back",
            Self::Failed => "failed",
            Self::Waiting => "waiting",
            Self::Leaving => "leaving",
            Self::Paused => "paused",
            Self::Well => "well",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Refused | Self::Failed => AnsiColor::Red.on_default(),
            Self::Waiting | Self::Leaving => AnsiColor::Yellow.on_default(),
            Self::Paused => DIM,
            Self::Well => AnsiColor::Green.on_default(),
        }
    }
}

#[derive(Debug, Clone)]
struct Row {
    name: ClusterName,
    health: Health,
    joined: usize,
    links: usize,
    note: String,
}

/// The table.
pub(super) struct Live {
    bar: Option<ProgressBar>,
    title: String,
    rows: Vec<Row>,
    read_at: BTreeMap<ClusterName, i64>,
    turned_at: i64,
}

impl Live {
    pub(super) fn new(hidden: bool) -> Self {
        let shown = !hidden && std::io::stderr().is_terminal();
        let bar = shown.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
            bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar
        });
        Self { bar, title: String::new(), rows: Vec::new(), read_at: BTreeMap::new(), turned_at: 0 }
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

    /// Clusters answered.
    pub(super) fn asked(&mut self, contacts: &Contacts) {
        self.read_at.clone_from(&contacts.read_at);
    }

    /// A turn was taken.
    pub(super) fn turned(&mut self, program: &Program, plan: &Plan, contacts: &Contacts, now: i64) {
        if self.bar.is_none() {
            return;
        }
        self.asked(contacts);
        self.turned_at = now;
        let clusters = program.mesh.clusters.len();
        self.title = format!("mesh {} · {clusters} cluster{}", program.mesh.name, if clusters == 1 { "" } else { "s" });
        self.rows = rows(program, plan);
        self.redraw(now);
    }

    pub(super) fn redraw(&mut self, now: i64) {
        let Some(bar) = &self.bar else { return };
        let height = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(USUAL_HEIGHT, |size| size.ws_row.into());
        let most = height.saturating_sub(KEPT_ROWS).max(1);
        let ago = |seconds: Option<i64>| seconds.map_or_else(|| "never".to_owned(), |at| words_ago(now - at));
        let cells = self.rows.iter().take(most).map(|row| {
            [
                row.name.to_string(),
                row.health.word().to_owned(),
                format!("{}/{}", row.joined, row.links),
                ago(self.read_at.get(&row.name).copied()),
                row.note.clone(),
            ]
        });
        let text = table(&["CLUSTER", "STATE", "JOINED", "READ", ""], cells.collect());
        let mut lines = text.lines();
        let mut drawn =
            format!("\n{BOLD}{}{BOLD:#} {DIM}· last turn {}{DIM:#}\n", self.title, words_ago(now - self.turned_at));
        drawn.push_str(&format!("{DIM}{}{DIM:#}\n", lines.next().unwrap_or_default()));
        for (row, line) in self.rows.iter().zip(lines) {
            // the word is coloured where it stands, so that the columns stay aligned
            let (word, style) = (row.health.word(), row.health.style());
            drawn.push_str(&line.replacen(word, &format!("{style}{word}{style:#}"), 1));
            drawn.push('\n');
        }
        if self.rows.len() > most {
            let rest = self.rows.get(most..).unwrap_or_default();
            let well = rest.iter().filter(|row| row.health == Health::Well).count();
            drawn.push_str(&format!("{DIM}… {} more, {well} of them well{DIM:#}\n", rest.len()));
        }
        bar.set_message(visible_but_styles(&drawn).into_owned());
        bar.tick();
    }
}

fn words_ago(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..120 => format!("{seconds} s ago"),
        seconds @ 120..7200 => format!("{} min ago", seconds / 60),
        seconds => format!("{} h ago", seconds / 3600),
    }
}

fn rows(program: &Program, plan: &Plan) -> Vec<Row> {
    let mut rows: BTreeMap<&ClusterName, Row> = BTreeMap::new();
    for cluster in program.mesh.clusters.values() {
        let name = &cluster.name;
        let links: Vec<_> = program.lock.links_of(name).collect();
        let health = match cluster.state {
            State::Paused => Health::Paused,
            State::Leaving => Health::Leaving,
            State::Active => Health::Well,
        };
        let joined = links.iter().filter(|(_, link)| link.stage == Stage::Joined).count();
        let wanted = program.mesh.peers_of(name).count().max(links.len());
        let row = Row { name: name.clone(), health, joined, links: wanted, note: String::new() };
        rows.insert(name, row);
    }
    for step in &plan.steps {
        let (health, note) = match &step.standing {
            StepStanding::Ready => continue,
            StepStanding::Waiting(reasons) => {
                (Health::Waiting, format!("{}: waits for {}", step.id, reasons.join("; ")))
            }
            StepStanding::Failed(reason) => (Health::Failed, reason.clone()),
            StepStanding::Refused(reason) => (Health::Refused, reason.clone()),
        };
        let Some(row) = rows.get_mut(&step.id.cluster) else { continue };
        if health < row.health || row.note.is_empty() {
            row.health = row.health.min(health);
            let short: String = note.chars().take(LONGEST_NOTE).collect();
            row.note = if short.len() < note.len() { format!("{short}…") } else { short };
        }
    }
    let mut rows: Vec<Row> = rows.into_values().collect();
    rows.sort_by(|a, b| (a.health, &a.name).cmp(&(b.health, &b.name)));
    rows
}

//! The loop of a watch.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::checkout::{Checkout, Guard};
use crate::pipeline::observe::Observed;
use crate::pipeline::plan::{PLAN_VERSION, Plan, StepState};
use crate::pipeline::{Program, Request, Run, Until, Written};
use crate::report::format::Output;
use crate::report::text::Printer;
use crate::session::command_error::CommandError;
use crate::session::exit::Exit;
use crate::session::facts;
use crate::session::fingerprints::Fingerprints;
use crate::session::planned::{Mode, PlanForm, Replaced, TreeSink, exit_of, keep_replaced, shown, take};
use crate::session::session::Session;
use crate::types::explanation::Explain as _;
use crate::types::name::{ClusterName, Digest};
use crate::watch::contacts::{Contacts, marks};
use crate::watch::error::WatchError;
use crate::watch::event::{EventSender, WatchEvent};
use crate::watch::files::Surroundings;
use crate::watch::history::{History, Recorded};
use crate::watch::live::Live;
use crate::watch::options::{Flags, Watch};
use crate::watch::pages::Pages;
use crate::watch::scheduler::{Causes, Event, Next, Pace, Scheduler};

/// Most runs that a rejected push makes in a row.
const MOST_REJECTED: u32 = 8;
/// How often the table on a terminal is drawn anew.
const REDRAW: Duration = Duration::from_secs(1);

pub(super) struct Watcher<'a> {
    flags: &'a Flags,
    watch: &'a Watch,
    printer: &'a Printer,
    begun: Instant,
    scheduler: Scheduler,
    runtime: tokio::runtime::Runtime,
    surroundings: Surroundings,
    contacts: Contacts,
    history: Option<History>,
    live: Live,
    pages: Pages,
    fingerprints: Arc<Fingerprints>,
    /// The checkout as last compiled.
    program: Option<Arc<Program>>,
    /// A run wrote another lock since.
    is_stale: bool,
    /// What was said of the last run, so that the same is not said again.
    last_shown: Option<Digest>,
    /// Messages on what is in the way, for the same reason.
    reported: Option<String>,
    rejected: u32,
    /// The last run was taken and its commit failed.
    record_failed: bool,
    exit: Exit,
}

enum RunEnd {
    /// It was taken; these clusters are waited for, and this was written.
    Reconciled(BTreeSet<ClusterName>),
    /// It waits for a commit.
    Waits(WatchError),
    /// It could not begin, or has to come again at once.
    Postponed { at_once: bool },
}

impl<'a> Watcher<'a> {
    pub(super) fn new(
        flags: &'a Flags,
        watch: &'a Watch,
        printer: &'a Printer,
        sender: EventSender,
    ) -> Result<Self, CommandError> {
        let dir = flags.directory.clone();
        let checkout = Checkout::open(&dir)?;
        let history = History::open(&dir, watch)?;
        let runtime = facts::runtime()?;
        stop_on_signals(&runtime, sender.clone());
        let surroundings = Surroundings::new(&dir, sender);
        let pace = Pace { every: watch.every, poll: watch.poll, pull: watch.pull, ..Pace::default() };
        let poll_waiting = pace.poll_waiting.min(watch.poll);
        let scan = surroundings.scan_every(pace.scan, &checkout);
        let mut pages = Pages::new();
        if let Some(address) = watch.http {
            let bound = runtime.block_on(pages.serve(address))?;
            printer.out(&format!("{bound}\n"));
        }
        let contacts = Contacts::new(dir, surroundings.sender().clone(), runtime.handle().clone());
        Ok(Self {
            flags,
            watch,
            printer,
            begun: Instant::now(),
            scheduler: Scheduler::new(Pace { poll_waiting, scan, ..pace }),
            runtime,
            surroundings,
            contacts,
            history,
            live: Live::new(flags.quiet || watch.once),
            pages,
            fingerprints: Arc::default(),
            program: None,
            is_stale: false,
            last_shown: None,
            reported: None,
            rejected: 0,
            record_failed: false,
            exit: Exit::Done,
        })
    }

    /// Runs until a signal comes, or with `--once` until it is done.
    pub(super) fn until_stopped(mut self, events: &Receiver<WatchEvent>) -> Result<Exit, CommandError> {
        self.scan()?;
        loop {
            let now = self.begun.elapsed();
            match self.scheduler.next(now) {
                Next::Stop => break,
                Next::Reconcile(causes) => self.reconcile(causes),
                Next::Scan => {
                    // the run says what is wrong with the checkout
                    let changed = self.scan().unwrap_or_else(|failure| vec![failure.to_string()]);
                    self.scheduler.on_event(Event::Scanned(changed), self.begun.elapsed());
                }
                Next::Ask(whom) => self.ask(whom),
                Next::Pull => self.pull(),
                Next::Sleep(until) => {
                    let pause = until.saturating_sub(now);
                    let pause = if self.live.is_shown() { pause.min(REDRAW) } else { pause };
                    match events.recv_timeout(pause) {
                        Ok(event) => self.on_event(event),
                        Err(RecvTimeoutError::Timeout) => self.live.redraw(crate::session::clock::now()),
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                    // whatever came together is taken together
                    while let Ok(event) = events.try_recv() {
                        self.on_event(event);
                    }
                }
            }
        }
        self.live.clear();
        // questions that are still open are not waited for
        self.runtime.shutdown_background();
        Ok(self.exit)
    }

    fn on_event(&mut self, event: WatchEvent) {
        let now = self.begun.elapsed();
        match event {
            WatchEvent::Stop => self.scheduler.on_event(Event::Stop, now),
            WatchEvent::Lost => {
                self.surroundings.lost();
                self.pages.count_lost();
                self.scheduler.on_event(Event::Touched, now);
            }
            WatchEvent::Files(paths) => {
                let sorted = self.surroundings.sort(&paths);
                if let Some(lock) = sorted.index_lock {
                    self.scheduler.on_event(Event::Index { locked: lock.exists() }, now);
                }
                if sorted.matters {
                    self.scheduler.on_event(Event::Touched, now);
                }
            }
            WatchEvent::Asked(answers) => {
                let answers = self.contacts.take(answers);
                self.live.asked(&self.contacts);
                self.scheduler.on_event(Event::Asked(answers), now);
            }
        }
    }

    fn scan(&mut self) -> Result<Vec<String>, CommandError> {
        let checkout = Checkout::open(&self.flags.directory)?;
        Ok(self.surroundings.scan(&checkout)?)
    }

    fn ask(&mut self, whom: BTreeSet<ClusterName>) {
        match self.program() {
            Ok(program) => self.contacts.ask(program, whom),
            Err(failure) => {
                // no one can be asked; what is known holds until the checkout compiles again
                self.report_once(&failure);
                let same = whom
                    .into_iter()
                    .map(|name| (name, crate::watch::scheduler::FetchOutcome { changed: false, failed: false }));
                self.scheduler.on_event(Event::Asked(same.collect()), self.begun.elapsed());
            }
        }
    }

    fn program(&mut self) -> Result<Arc<Program>, CommandError> {
        if let Some(program) = self.program.as_ref().filter(|_| !self.is_stale) {
            return Ok(program.clone());
        }
        let checkout = Checkout::open(&self.flags.directory)?;
        let program = Session::load(&checkout, None, self.program.as_deref(), false)?.program;
        self.compiled(program.clone());
        Ok(program)
    }

    fn compiled(&mut self, program: Arc<Program>) {
        (self.program, self.is_stale) = (Some(program), false);
    }

    /// Says what is in the way, once; with `--output json` also as a document of its own.
    fn report_once(&mut self, failure: &CommandError) {
        let findings = failure.findings().sorted();
        let messages: Vec<String> = findings.iter().map(|finding| finding.text()).collect();
        let message = if findings.is_empty() { failure.to_string() } else { messages.join("\n") };
        if self.reported.as_ref() == Some(&message) {
            return;
        }
        self.live.hide(|| {
            failure.print(self.printer);
            if self.flags.output == Output::Json {
                self.printer.out(&format!("{}\n", failure.document(PLAN_VERSION)));
            }
        });
        self.reported = Some(message);
    }

    fn pull(&mut self) {
        if let Some(history) = &mut self.history {
            match history.pull() {
                Ok(messages) => {
                    for message in messages {
                        self.live.hide(|| self.printer.status(&message));
                    }
                }
                Err(failure) => self.report_once(&failure),
            }
        }
        self.scheduler.on_event(Event::Pulled, self.begun.elapsed());
        self.surroundings.lost();
        self.scheduler.on_event(Event::Touched, self.begun.elapsed());
    }

    fn reconcile(&mut self, causes: Causes) {
        let begun = Instant::now();
        let ended = self.try_reconcile(&causes);
        let now = self.begun.elapsed();
        match ended {
            Ok(RunEnd::Reconciled(awaited)) => {
                self.reported = None;
                self.wait_no_more();
                self.pages.reconciled(self.exit, begun.elapsed());
                let over = self.watch.limit.is_none_or(|limit| now >= limit);
                if self.watch.once && (awaited.is_empty() || over) {
                    self.scheduler.on_event(Event::Stop, now);
                }
                self.scheduler.on_event(Event::Reconciled { awaited }, now);
            }
            Ok(RunEnd::Waits(reason)) => self.wait(reason, causes),
            Ok(RunEnd::Postponed { at_once }) => self.scheduler.on_event(Event::Postponed { causes, at_once }, now),
            Err(failure) => {
                self.exit = failure.exit();
                self.wait_no_more();
                self.pages.reconciled(failure.exit(), begun.elapsed());
                self.pages.fail(&failure.to_string());
                self.report_once(&failure);
                let retried = matches!(failure.exit(), Exit::Busy | Exit::Machine);
                // whatever kept a commit from being made, the files that it is about are there
                let again = retried || self.record_failed;
                let over = self.watch.limit.is_none_or(|limit| now >= limit);
                if self.watch.once && (!retried || over) {
                    self.scheduler.on_event(Event::Stop, now);
                } else if again {
                    self.scheduler.on_event(Event::Postponed { causes, at_once: false }, now);
                } else {
                    // what is wrong is in the files: the next change of them is the next chance
                    self.scheduler.on_event(Event::Reconciled { awaited: BTreeSet::new() }, now);
                }
            }
        }
    }

    /// Waits for a commit, and shows it everywhere.
    fn wait(&mut self, reason: WatchError, causes: Causes) {
        let explanation = reason.explanation();
        let sentence = explanation.to_string();
        let first = self.reported.as_ref() != Some(&sentence);
        self.pages.wait(&explanation, first);
        self.live.waits(Some(explanation.message), crate::session::clock::now());
        let error = CommandError::from(reason);
        self.exit = error.exit();
        if first {
            self.live.hide(|| {
                self.printer.status(&sentence);
                if self.flags.output == Output::Json {
                    self.printer.out(&format!("{}\n", error.document(PLAN_VERSION)));
                }
            });
            self.reported = Some(sentence);
        }
        let now = self.begun.elapsed();
        if self.watch.once && self.watch.limit.is_none_or(|limit| now >= limit) {
            self.scheduler.on_event(Event::Stop, now);
        }
        self.scheduler.on_event(Event::Waits { causes }, now);
    }

    fn wait_no_more(&mut self) {
        self.pages.wait_no_more();
        self.live.waits(None, crate::session::clock::now());
    }

    fn try_reconcile(&mut self, causes: &Causes) -> Result<RunEnd, CommandError> {
        self.record_failed = false;
        let checkout = Checkout::open(&self.flags.directory)?;
        let guard = checkout.lock()?;
        if let Some(history) = &mut self.history {
            history.ready()?;
        }
        let mut session = Session::load(&guard, None, self.program.as_deref(), false)?;
        session.remember(&self.fingerprints);
        self.start(&session);
        if let Some(history) = &self.history {
            let files = history.uncommitted(&session)?;
            if !files.is_empty() {
                return Ok(RunEnd::Waits(WatchError::NotCommitted { files }));
            }
        }
        self.compiled(session.program.clone());
        let marks = marks(&session, &|place| self.surroundings.stamp(place));
        self.contacts.keep(&marks);
        self.scheduler.on_event(Event::Known(marks), self.begun.elapsed());
        let aged = self.contacts.aged(session.now);
        self.scheduler.on_event(Event::Aged(aged), self.begun.elapsed());
        if self.scheduler.must_ask_first() {
            return Ok(RunEnd::Postponed { at_once: true });
        }
        let observed = Observed::clone(&self.contacts.observed);
        let quiet = Printer::new(true);
        let mut replaced = Replaced::new();
        let mut sink = TreeSink {
            session: &session,
            guard: &guard,
            planned: |_: &Program, run: &Run| replaced = keep_replaced(session.checkout, &run.plan),
        };
        let taken = take(&session, &Request::default(), Mode::Stored(observed), Until::Written(&mut sink), &quiet)?;
        let (exit, written) = (exit_of(&taken.plan), taken.written);
        if written != Written::default() {
            self.surroundings.wrote(&guard)?;
        }
        self.show(&session, &taken, &replaced, causes);
        let program = if taken.plan.lock.is_empty() {
            session.program.clone()
        } else {
            self.is_stale = true;
            self.program()?
        };
        self.exit = exit;
        let now = crate::session::clock::now();
        self.live.reconciled(&program, &taken.plan, &self.contacts, now);
        self.pages.publish(&program, &taken.plan, &self.contacts, &guard, now);
        if !self.record(&guard, &taken.plan, causes)? {
            return Ok(RunEnd::Postponed { at_once: true });
        }
        Ok(RunEnd::Reconciled(awaited(&taken.plan)))
    }

    fn start(&mut self, session: &Session<'_>) {
        let mut others: BTreeSet<String> = session.files.keys().cloned().collect();
        for cluster in session.program.mesh.clusters.values() {
            if let crate::types::address::Endpoint::File(folder) = &cluster.endpoint {
                others.insert(folder.clone());
            }
        }
        let git = self.history.as_ref().map(History::index_folder);
        if let Some(message) = self.surroundings.start(session.checkout, others, git.as_deref()) {
            self.scheduler.scan_every(self.surroundings.scan_every(Pace::default().scan, session.checkout));
            self.warn_once(&message);
        }
    }

    fn warn_once(&mut self, message: &str) {
        let digest = Digest::of(message.as_bytes());
        if self.pages.note(digest) {
            self.live.hide(|| self.printer.status(message));
        }
    }

    /// Commits and pushes. `false`: the remote moved on, its commits are here now, and the run has to be taken again.
    fn record(&mut self, guard: &Guard<'_>, plan: &Plan, causes: &Causes) -> Result<bool, CommandError> {
        let Some(history) = &mut self.history else { return Ok(true) };
        let recorded = history.record(guard, plan, causes, self.rejected < MOST_REJECTED);
        self.record_failed = recorded.is_err();
        match recorded? {
            Recorded::Nothing => {}
            Recorded::Done(message) => {
                self.rejected = 0;
                self.pages.count_commit();
                self.live.hide(|| self.printer.status(&message));
            }
            Recorded::Again(message) => {
                self.rejected += 1;
                self.live.hide(|| self.printer.status(&message));
                self.is_stale = true;
                self.surroundings.wrote(guard)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Prints a run, unless the same was printed before.
    fn show(&mut self, session: &Session<'_>, taken: &Run, replaced: &Replaced, causes: &Causes) {
        let (plan, written) = (&taken.plan, taken.written);
        let states: Vec<_> = plan.steps.iter().filter(|step| step.state != StepState::Ready).collect();
        let states: Vec<_> = states.iter().map(|step| (&step.id, &step.state)).collect();
        let digest = Digest::of(format!("{states:?} {:?}", plan.trust_changes).as_bytes());
        let same = self.last_shown.replace(digest) == Some(digest);
        if same && written == Written::default() && !self.flags.verbose {
            return;
        }
        let time = crate::session::clock::wall_clock();
        let message = if written == Written::default() {
            format!("{time} {causes}: {}", crate::report::text::summary(plan))
        } else {
            format!("{time} {causes}: {} files written, {} deleted", written.written, written.deleted)
        };
        self.live.hide(|| {
            self.printer.status(&message);
            if self.flags.output == Output::Json || written != Written::default() || !same {
                let form = PlanForm { output: self.flags.output, verbose: self.flags.verbose, brief: false };
                self.printer.form(self.flags.output, &shown(&session.program, taken, session, replaced, form));
            }
            for warning in &plan.warnings {
                self.printer.status(&warning.text());
            }
        });
    }
}

/// Clusters that steps wait for: those of waiting links, on both ends.
fn awaited(plan: &Plan) -> BTreeSet<ClusterName> {
    let waiting = plan.steps.iter().filter(|step| matches!(step.state, StepState::Waiting(_)));
    waiting.flat_map(|step| std::iter::once(step.id.cluster.clone()).chain(step.id.peer.clone())).collect()
}

fn stop_on_signals(runtime: &tokio::runtime::Runtime, sender: EventSender) {
    use tokio::signal::unix::{SignalKind, signal};
    runtime.spawn(async move {
        let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            return;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        sender.send(WatchEvent::Stop);
        // a second one ends at once
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(130);
    });
}

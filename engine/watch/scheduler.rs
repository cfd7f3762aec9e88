//! When to do what: the scheduler of `engine watch`. Pure: events and the time come in as values, one next action comes out.
//!
//! 1. Events of files only wake: after a quiet while, the checkout is scanned, and only what differs from the last scan
//!    asks for a run. So own writes cause none, and neither does a storm of events without a change.
//! 2. Clusters are asked each at its own pace; one that fails is asked less and less often. A change of metadata asks for a run.
//! 3. A run is also due on time. There is one run at a time, and what comes meanwhile makes one more.
//!
//! Times are [`Duration`]s since the watch began.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::types::name::ClusterName;

/// How long things may take, and how often they are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// Quiet that must follow the last event of a file.
    pub debounce: Duration,
    /// Longest time that events of files may put a scan off.
    pub at_most: Duration,
    /// Between two runs that nothing asks for.
    pub every: Duration,
    /// Between two questions to a cluster.
    pub poll: Duration,
    /// The same while links wait for it.
    pub poll_waiting: Duration,
    /// Longest pause after failures.
    pub back_off: Duration,
    /// Between two scans of the checkout without any event: where events get lost, such as on NFS, this finds changes.
    pub scan: Duration,
    /// Between two pulls.
    pub pull: Option<Duration>,
    /// Longest wait for git to release its index; a process that holds it longer is taken for dead.
    pub index_lock: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(500),
            at_most: Duration::from_secs(5),
            every: Duration::from_mins(15),
            poll: Duration::from_secs(30),
            poll_waiting: Duration::from_secs(5),
            back_off: Duration::from_mins(5),
            scan: Duration::from_mins(2),
            pull: None,
            index_lock: Duration::from_secs(30),
        }
    }
}

/// What the scheduler is given: changes of files, answers of clusters, ends of runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Files changed, or events were lost.
    Touched,
    /// git took its index, or let it go.
    Index {
        /// Whether it is taken now.
        locked: bool,
    },
    /// The checkout was scanned; these differ from the last scan.
    Scanned(Vec<String>),
    /// The clusters that take part, each with a mark of how it is asked. A new or changed one is asked before the next run.
    Known(BTreeMap<ClusterName, u64>),
    /// A run could not begin, or must be taken again.
    Postponed {
        /// Why it was wanted.
        causes: Causes,
        /// Whether it should come at once, such as after a question to a new cluster; else after a growing pause.
        at_once: bool,
    },
    /// A run waits for a commit, which events of git's index tell of; where none come, it is tried again at the pace of a
    /// cluster that is waited for.
    Waits {
        /// Why it was wanted.
        causes: Causes,
    },
    /// A run is over.
    Reconciled {
        /// Clusters that links wait for.
        awaited: BTreeSet<ClusterName>,
    },
    /// What these clusters answered last is too old for a run.
    Aged(BTreeSet<ClusterName>),
    Asked(BTreeMap<ClusterName, FetchOutcome>),
    /// The remote was asked for commits.
    Pulled,
    /// The watch is to end.
    Stop,
}

/// How asking a cluster went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchOutcome {
    /// Whether it differs from the one before.
    pub changed: bool,
    /// Whether it is a failure.
    pub failed: bool,
}

/// Why a run is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Causes {
    pub start: bool,
    pub time: bool,
    /// What changed in the checkout.
    pub files: BTreeSet<String>,
    /// Clusters that publish something else.
    pub changed: BTreeSet<ClusterName>,
}

impl Causes {
    fn join(&mut self, other: Self) {
        self.start |= other.start;
        self.time |= other.time;
        self.files.extend(other.files);
        self.changed.extend(other.changed);
    }
}

impl std::fmt::Display for Causes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const MOST: usize = 3;
        let list = |names: Vec<&str>| match names.len() {
            0..=MOST => names.join(", "),
            many => {
                let first = names.get(..MOST).unwrap_or_default().join(", ");
                format!("{first} and {} more", many - MOST)
            }
        };
        let mut parts = Vec::new();
        if self.start {
            parts.push("start".to_owned());
        }
        if !self.files.is_empty() {
            parts.push(format!("changed: {}", list(self.files.iter().map(String::as_str).collect())));
        }
        if !self.changed.is_empty() {
            parts.push(format!("metadata of {} changed", list(self.changed.iter().map(ClusterName::as_str).collect())));
        }
        if self.time && parts.is_empty() {
            parts.push("it is time".to_owned());
        }
        f.write_str(&parts.join("; "))
    }
}

/// What the watch does next, and until when it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Reconcile(Causes),
    /// Scan the checkout for changes.
    Scan,
    /// Ask these clusters, beside everything else.
    Ask(BTreeSet<ClusterName>),
    /// Ask the remote for commits.
    Pull,
    /// Nothing until this time, unless an event comes.
    Sleep(Duration),
    Stop,
}

/// A cluster as one to ask.
#[derive(Debug, Clone)]
struct ContactPace {
    mark: u64,
    due: Duration,
    failures: u32,
    asking: bool,
    /// Never answered as it is asked now, or too long ago.
    fresh: bool,
}

/// Decides when to reconcile, poll, scan and pull. Pure: time comes in as a value.
#[derive(Debug)]
pub struct Scheduler {
    pace: Pace,
    /// First and last event of files since the last scan.
    touched: Option<(Duration, Duration)>,
    index_locked: Option<Duration>,
    wanted: Option<Causes>,
    not_before: Duration,
    postponed: u32,
    /// A run waits for a commit.
    waits: bool,
    contacts: BTreeMap<ClusterName, ContactPace>,
    awaited: BTreeSet<ClusterName>,
    next_run: Duration,
    next_scan: Duration,
    next_pull: Option<Duration>,
    stopping: bool,
}

impl Scheduler {
    /// A scheduler that wants a run at once.
    pub fn new(pace: Pace) -> Self {
        Self {
            touched: None,
            index_locked: None,
            wanted: Some(Causes { start: true, ..Causes::default() }),
            not_before: Duration::ZERO,
            postponed: 0,
            waits: false,
            contacts: BTreeMap::new(),
            awaited: BTreeSet::new(),
            next_run: pace.every,
            next_scan: pace.scan,
            next_pull: pace.pull.map(|_| Duration::ZERO),
            stopping: false,
            pace,
        }
    }

    /// Takes note of something that happened.
    pub fn on_event(&mut self, event: Event, now: Duration) {
        match event {
            Event::Touched => {
                let first = self.touched.map_or(now, |(first, _)| first);
                self.touched = Some((first, now));
            }
            Event::Index { locked: false } => {
                self.index_locked = None;
                if self.waits {
                    // half a commit is not seen: git releases its index last
                    self.not_before = now;
                }
            }
            Event::Index { locked: true } => self.index_locked = self.index_locked.or(Some(now)),
            Event::Scanned(changed) => {
                self.next_scan = now + self.pace.scan;
                if !changed.is_empty() {
                    self.want(Causes { files: changed.into_iter().collect(), ..Causes::default() });
                    // whoever changed something is not made to wait for an earlier failure
                    self.not_before = now;
                }
            }
            Event::Known(marks) => self.know(&marks, now),
            Event::Postponed { causes, at_once } => {
                self.want(causes);
                if !at_once {
                    self.postponed = self.postponed.saturating_add(1);
                    self.not_before = now + self.backed_off(Duration::from_secs(1), self.postponed - 1);
                }
            }
            Event::Waits { causes } => {
                self.want(causes);
                (self.waits, self.postponed) = (true, 0);
                self.not_before = now + self.pace.poll_waiting;
            }
            Event::Reconciled { awaited } => {
                (self.waits, self.postponed) = (false, 0);
                self.next_run = now + self.pace.every;
                for name in awaited.difference(&self.awaited) {
                    if let Some(contact) = self.contacts.get_mut(name).filter(|contact| contact.failures == 0) {
                        contact.due = contact.due.min(now + self.pace.poll_waiting);
                    }
                }
                self.awaited = awaited;
            }
            Event::Aged(names) => {
                for name in &names {
                    if let Some(contact) = self.contacts.get_mut(name) {
                        (contact.fresh, contact.due) = (true, now);
                    }
                }
            }
            Event::Asked(answers) => self.asked(answers, now),
            Event::Pulled => self.next_pull = self.pace.pull.map(|pull| now + pull),
            Event::Stop => self.stopping = true,
        }
    }

    /// From now on scans come this often.
    pub fn scan_every(&mut self, scan: Duration) {
        if scan != self.pace.scan {
            self.next_scan = self.next_scan.saturating_sub(self.pace.scan) + scan;
            self.pace.scan = scan;
        }
    }

    /// Whether a cluster has to be asked before a run makes sense.
    pub fn must_ask_first(&self) -> bool {
        self.contacts.values().any(|contact| contact.fresh)
    }

    fn want(&mut self, causes: Causes) {
        self.wanted.get_or_insert_default().join(causes);
    }

    fn know(&mut self, marks: &BTreeMap<ClusterName, u64>, now: Duration) {
        self.contacts.retain(|name, _| marks.contains_key(name));
        for (name, mark) in marks {
            let known = self.contacts.get(name).is_some_and(|contact| contact.mark == *mark);
            if !known {
                // an answer that is still to come was asked for in another way
                let asking = self.contacts.get(name).is_some_and(|contact| contact.asking);
                let contact = ContactPace { mark: *mark, due: now, failures: 0, asking, fresh: true };
                self.contacts.insert(name.clone(), contact);
            }
        }
    }

    fn asked(&mut self, answers: BTreeMap<ClusterName, FetchOutcome>, now: Duration) {
        let mut changed = BTreeSet::new();
        for (name, answer) in answers {
            let pause = if self.awaited.contains(&name) { self.pace.poll_waiting } else { self.pace.poll };
            let Some(failures) = self.contacts.get(&name).map(|contact| contact.failures) else { continue };
            let failures = if answer.failed { failures.saturating_add(1) } else { 0 };
            let pause = if answer.failed { self.backed_off(pause, failures - 1) } else { pause };
            if let Some(contact) = self.contacts.get_mut(&name) {
                (contact.failures, contact.asking, contact.fresh) = (failures, false, false);
                contact.due = now + pause;
            }
            if answer.changed {
                changed.insert(name);
            }
        }
        if !changed.is_empty() {
            self.want(Causes { changed, ..Causes::default() });
        }
    }

    /// A pause that doubles with each failure.
    fn backed_off(&self, pause: Duration, failures: u32) -> Duration {
        pause.saturating_mul(2_u32.saturating_pow(failures.min(20))).min(self.pace.back_off.max(pause))
    }

    /// What to do now. Whoever is told to do something tells the outcome before asking again, but for [`Next::Ask`], whose
    /// outcome may come later.
    pub fn next(&mut self, now: Duration) -> Next {
        if self.stopping {
            return Next::Stop;
        }
        let mut sleep = self.next_run.min(self.next_scan);
        let index_free = self.index_locked.map(|since| since + self.pace.index_lock);
        if let Some(free) = index_free.filter(|free| now < *free) {
            // git is at work: what is on disk is half of something
            sleep = sleep.min(free);
        } else {
            if let Some((first, last)) = self.touched {
                let due = (last + self.pace.debounce).min(first + self.pace.at_most);
                if due <= now {
                    self.touched = None;
                    return Next::Scan;
                }
                sleep = sleep.min(due);
            }
            if self.next_scan <= now {
                self.next_scan = now + self.pace.scan;
                return Next::Scan;
            }
            if let Some(due) = self.next_pull {
                if due <= now {
                    self.next_pull = self.pace.pull.map(|pull| now + pull);
                    return Next::Pull;
                }
                sleep = sleep.min(due);
            }
        }
        let mut due = BTreeSet::new();
        for (name, contact) in &mut self.contacts {
            if !contact.asking && contact.due <= now {
                contact.asking = true;
                due.insert(name.clone());
            }
        }
        if !due.is_empty() {
            return Next::Ask(due);
        }
        sleep = self
            .contacts
            .values()
            .filter(|contact| !contact.asking)
            .map(|contact| contact.due)
            .fold(sleep, Duration::min);
        if self.next_run <= now {
            self.next_run = now + self.pace.every;
            self.want(Causes { time: true, ..Causes::default() });
        }
        let held = index_free.is_some_and(|free| now < free) || self.must_ask_first();
        match &self.wanted {
            Some(_) if held => {}
            Some(_) if self.not_before > now => sleep = sleep.min(self.not_before),
            Some(_) => return Next::Reconcile(self.wanted.take().unwrap_or_default()),
            None => {}
        }
        Next::Sleep(sleep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn name(text: &str) -> ClusterName {
        text.parse().unwrap()
    }

    /// Runs a scheduler over events at their times, answering scans, questions and runs at once; gives the runs.
    struct SimulatedRun {
        scheduler: Scheduler,
        /// What the next scan finds.
        changed: Vec<String>,
        runs: Vec<(Duration, String)>,
        scans: usize,
        asked: Vec<(Duration, BTreeSet<ClusterName>)>,
        pulls: Vec<Duration>,
        answer: fn(&ClusterName, Duration) -> FetchOutcome,
        awaited: BTreeSet<ClusterName>,
    }

    impl SimulatedRun {
        fn new(pace: Pace) -> Self {
            Self {
                scheduler: Scheduler::new(pace),
                changed: Vec::new(),
                runs: Vec::new(),
                scans: 0,
                asked: Vec::new(),
                pulls: Vec::new(),
                answer: |_, _| FetchOutcome { changed: false, failed: false },
                awaited: BTreeSet::new(),
            }
        }

        /// Does what is to be done up to a time; every action takes no time.
        fn until(&mut self, from: Duration, to: Duration) {
            let mut now = from;
            let mut steps = 0;
            loop {
                steps += 1;
                assert!(steps < 100_000, "it never sleeps");
                match self.scheduler.next(now) {
                    Next::Reconcile(causes) => {
                        self.runs.push((now, causes.to_string()));
                        self.scheduler.on_event(Event::Reconciled { awaited: self.awaited.clone() }, now);
                    }
                    Next::Scan => {
                        self.scans += 1;
                        self.scheduler.on_event(Event::Scanned(std::mem::take(&mut self.changed)), now);
                    }
                    Next::Ask(names) => {
                        let answers = names.iter().map(|name| (name.clone(), (self.answer)(name, now))).collect();
                        self.asked.push((now, names));
                        self.scheduler.on_event(Event::Asked(answers), now);
                    }
                    Next::Pull => {
                        self.pulls.push(now);
                        self.scheduler.on_event(Event::Pulled, now);
                    }
                    Next::Sleep(until) if until > to => return,
                    Next::Sleep(until) => {
                        assert!(until > now, "it sleeps until now");
                        now = until;
                    }
                    Next::Stop => return,
                }
            }
        }

        fn touch(&mut self, now: Duration, changed: &[&str]) {
            self.changed.extend(changed.iter().map(|path| (*path).to_owned()));
            self.scheduler.on_event(Event::Touched, now);
        }
    }

    #[test]
    fn a_storm_of_events_is_a_scan_after_quiet_or_after_five_seconds() {
        let mut run = SimulatedRun::new(Pace::default());
        run.until(at(0), at(0));
        assert_eq!(run.runs, [(at(0), "start".to_owned())]);
        // 2,000 files in 200 ms
        for event in 0..8000 {
            run.touch(at(1000 + event / 40), if event == 0 { &["specs"] } else { &[] });
        }
        run.until(at(1200), at(10_000));
        assert_eq!(run.runs[1..], [(at(1699), "changed: specs".to_owned())]);
        // and one that never ends
        let mut run = SimulatedRun::new(Pace::default());
        run.until(at(0), at(0));
        for event in 0..600 {
            run.touch(at(1000 + event * 100), &["rendered/east"]);
            run.until(at(1000 + event * 100), at(1000 + event * 100 + 99));
        }
        let times: Vec<Duration> = run.runs[1..].iter().map(|(time, _)| *time).collect();
        assert!(times.windows(2).all(|pair| pair[1] >= pair[0] + at(5000)), "{times:?}");
        assert!((11..=13).contains(&times.len()), "{times:?}");
    }

    #[test]
    fn events_without_a_change_are_no_run() {
        let mut run = SimulatedRun::new(Pace::default());
        run.until(at(0), at(0));
        for second in 1..100 {
            run.touch(at(second * 1000), &[]);
            run.until(at(second * 1000), at(second * 1000 + 999));
        }
        assert_eq!(run.runs.len(), 1);
        assert!(run.scans >= 99);
    }

    #[test]
    fn nothing_is_read_while_git_holds_its_index_unless_it_is_taken_for_dead() {
        let mut run = SimulatedRun::new(Pace::default());
        run.until(at(0), at(0));
        run.scheduler.on_event(Event::Index { locked: true }, at(1000));
        run.touch(at(1000), &["specs"]);
        run.until(at(1000), at(20_000));
        assert_eq!((run.runs.len(), run.scans), (1, 0));
        run.scheduler.on_event(Event::Index { locked: false }, at(20_000));
        run.until(at(20_000), at(20_001));
        assert_eq!(run.runs.last().unwrap().0, at(20_000));
        run.scheduler.on_event(Event::Index { locked: true }, at(30_000));
        run.touch(at(30_000), &["specs"]);
        run.until(at(30_000), at(70_000));
        assert_eq!(run.runs.last().unwrap().0, at(60_000));
    }

    #[test]
    fn new_clusters_are_asked_before_the_run_and_failing_ones_less_and_less() {
        let mut run = SimulatedRun::new(Pace {
            every: Duration::from_hours(24),
            scan: Duration::from_hours(24),
            ..Pace::default()
        });
        run.answer = |name, _| FetchOutcome { changed: false, failed: name.as_str() == "dead" };
        let marks: BTreeMap<_, _> = [(name("dead"), 1), (name("well"), 1)].into();
        run.scheduler.on_event(Event::Known(marks.clone()), at(0));
        run.until(at(0), at(3_600_000));
        assert_eq!(run.asked[0].1.len(), 2);
        assert_eq!(run.runs.len(), 1);
        let times = |who: &str| -> Vec<u64> {
            let asked = run.asked.iter().filter(|(_, names)| names.contains(&name(who)));
            asked.map(|(time, _)| time.as_secs()).collect()
        };
        assert_eq!(times("dead")[..6], [0, 30, 90, 210, 450, 750]);
        assert_eq!(times("well")[..4], [0, 30, 60, 90]);
        // the same ones again ask no one; another mark does, and holds the run up
        let asked = run.asked.len();
        run.scheduler.on_event(Event::Known(marks), at(3_600_001));
        assert!(matches!(run.scheduler.next(at(3_600_001)), Next::Sleep(_)));
        run.scheduler.on_event(Event::Known([(name("dead"), 1), (name("well"), 2)].into()), at(3_600_002));
        run.touch(at(3_600_002), &["specs"]);
        let Next::Ask(names) = run.scheduler.next(at(3_600_002)) else { panic!() };
        assert_eq!(names, [name("well")].into());
        run.until(at(3_600_002), at(3_620_000));
        assert_eq!((run.runs.len(), run.asked.len()), (1, asked));
        run.scheduler.on_event(
            Event::Asked([(name("well"), FetchOutcome { changed: true, failed: false })].into()),
            at(3_620_001),
        );
        run.until(at(3_620_001), at(3_620_001));
        assert_eq!(run.runs[1].1, "changed: specs; metadata of well changed");
    }

    /// What it showed then opens and closes nothing now.
    #[test]
    fn a_cluster_that_answered_too_long_ago_is_asked_before_the_run() {
        let mut run = SimulatedRun::new(Pace { poll: Duration::from_hours(1), ..Pace::default() });
        run.scheduler.on_event(Event::Known([(name("east"), 1), (name("west"), 1)].into()), at(0));
        run.until(at(0), at(1000));
        let (runs, asked) = (run.runs.len(), run.asked.len());
        run.touch(at(700_000), &["specs"]);
        run.scheduler.on_event(Event::Aged([name("west")].into()), at(700_000));
        let Next::Scan = run.scheduler.next(at(700_300)) else { panic!() };
        run.scheduler.on_event(Event::Scanned(vec!["specs".to_owned()]), at(700_300));
        let Next::Ask(names) = run.scheduler.next(at(700_300)) else { panic!() };
        assert_eq!(names, [name("west")].into());
        run.until(at(700_300), at(700_900));
        assert_eq!((run.runs.len(), run.asked.len()), (runs, asked), "it waits for the answer");
        let answer = FetchOutcome { changed: false, failed: false };
        run.scheduler.on_event(Event::Asked([(name("west"), answer)].into()), at(701_000));
        run.until(at(701_000), at(701_000));
        assert_eq!(run.runs.len(), runs + 1);
    }

    #[test]
    fn clusters_that_links_wait_for_are_asked_more_often() {
        let mut run = SimulatedRun::new(Pace::default());
        run.awaited = [name("east")].into();
        run.scheduler.on_event(Event::Known([(name("east"), 1), (name("west"), 1)].into()), at(0));
        run.until(at(0), at(29_000));
        let asked = |who: &str| run.asked.iter().filter(|(_, names)| names.contains(&name(who))).count();
        assert_eq!((asked("east"), asked("west")), (6, 1));
    }

    #[test]
    fn runs_and_pulls_come_on_time_and_a_run_that_cannot_begin_comes_again() {
        let pace = Pace { pull: Some(Duration::from_mins(1)), ..Pace::default() };
        let mut run = SimulatedRun::new(pace);
        run.until(at(0), Duration::from_hours(1));
        assert_eq!(run.runs.len(), 5);
        assert_eq!(run.pulls.len(), 61);
        assert_eq!(run.runs[1].1, "it is time");

        let mut scheduler = Scheduler::new(Pace::default());
        let mut now = Duration::ZERO;
        let mut tries = Vec::new();
        while tries.len() < 12 {
            match scheduler.next(now) {
                Next::Reconcile(causes) => {
                    tries.push(now.as_secs());
                    scheduler.on_event(Event::Postponed { causes, at_once: false }, now);
                }
                Next::Scan => scheduler.on_event(Event::Scanned(Vec::new()), now),
                Next::Sleep(until) => now = until,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(tries[..9], [0, 1, 3, 7, 15, 31, 63, 127, 255]);
        assert_eq!(tries[11] - tries[10], 300);
    }

    #[test]
    fn what_comes_during_a_run_makes_exactly_one_more() {
        let mut run = SimulatedRun::new(Pace::default());
        let Next::Reconcile(_) = run.scheduler.next(at(0)) else { panic!() };
        for event in 0..50 {
            run.touch(at(100 + event), &["specs"]);
        }
        run.scheduler.on_event(Event::Reconciled { awaited: BTreeSet::new() }, at(2000));
        run.until(at(2000), at(60_000));
        assert_eq!(run.runs, [(at(2000), "changed: specs".to_owned())]);
        run.scheduler.on_event(Event::Stop, at(60_001));
        assert_eq!(run.scheduler.next(at(60_001)), Next::Stop);
    }

    #[test]
    fn a_run_that_waits_for_a_commit_comes_with_it_or_at_a_steady_pace() {
        let mut scheduler = Scheduler::new(Pace::default());
        let Next::Reconcile(causes) = scheduler.next(at(0)) else { panic!("no run at the start") };
        for round in 0..5 {
            scheduler.on_event(Event::Waits { causes: causes.clone() }, at(round * 5_000));
            assert!(
                matches!(scheduler.next(at(round * 5_000 + 4_999)), Next::Sleep(until) if until == at(round * 5_000 + 5_000))
            );
            assert_eq!(scheduler.next(at(round * 5_000 + 5_000)), Next::Reconcile(causes.clone()));
        }
        scheduler.on_event(Event::Waits { causes: causes.clone() }, at(25_000));
        scheduler.on_event(Event::Index { locked: true }, at(26_000));
        assert!(matches!(scheduler.next(at(26_000)), Next::Sleep(_)));
        scheduler.on_event(Event::Index { locked: false }, at(26_100));
        assert_eq!(scheduler.next(at(26_100)), Next::Reconcile(causes.clone()));
        // once it was taken, git's index brings nothing forward
        scheduler.on_event(Event::Reconciled { awaited: BTreeSet::new() }, at(26_200));
        scheduler.on_event(Event::Postponed { causes, at_once: false }, at(26_300));
        scheduler.on_event(Event::Index { locked: false }, at(26_400));
        assert!(matches!(scheduler.next(at(26_400)), Next::Sleep(until) if until == at(27_300)));
    }
}

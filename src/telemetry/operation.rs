//! What is under way: operations on sandboxes, containers and images, and the stage of each.
//!
//! An operation is one run of a call's work, however many callers wait for it. It names each
//! stage that it comes to; how long a stage took becomes a figure and, where the call is
//! traced, a span. One that stays in a stage for longer than it should is stuck: that is told
//! once, with what the kernel says about the thread or process that it waits for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant, SystemTime},
};

use tracing::{info, warn};

use super::{figures::Figures, kernel, trace};
use crate::kind::Kind;

/// How long an operation may be in a stage without being stuck, beyond the time that the stage
/// is known to take.
pub const STUCK: Duration = Duration::from_secs(10);

/// How often it is looked for operations that are stuck.
const LOOK: Duration = Duration::from_secs(1);

/// The stage of an operation that has named none yet.
const BEGINNING: &str = "beginning";

/// All that is under way.
pub struct Operations {
    // Held for one insertion, removal or copy.
    table: Mutex<Table>,
    figures: Arc<Figures>,
}

#[derive(Default)]
struct Table {
    entries: BTreeMap<u64, Arc<Entry>>,
    next: u64,
}

struct Entry {
    name: &'static str,
    what: &'static str,
    id: String,
    since: Instant,
    // Held for one look or one change.
    now: Mutex<Now>,
}

/// The stage that an operation is in.
struct Now {
    stage: &'static str,
    since: Instant,
    began: SystemTime,
    /// When it last moved.
    moved: Instant,
    /// How long it may take, besides [`STUCK`].
    expected: Duration,
    /// The thread or process that it waits for.
    process: Option<u32>,
    /// What the kernel says of that, once it is told that the operation is stuck.
    told: Option<String>,
}

/// An operation as it is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderWay {
    /// The call that it belongs to.
    pub name: &'static str,
    /// What it is about: a sandbox, a container, an image.
    pub what: &'static str,
    /// Which one.
    pub id: String,
    /// How old it is.
    pub age: Duration,
    /// Its stage.
    pub stage: &'static str,
    /// How long it has been in it.
    pub stage_age: Duration,
    /// Whether that is longer than it should.
    pub is_stuck: bool,
    /// Where in the kernel it is, if it is stuck and that is known.
    pub kernel: Option<String>,
}

/// The operations on one object.
#[derive(Default)]
pub struct Stage {
    // Held for one look or one change.
    entries: Mutex<Vec<Weak<Entry>>>,
}

/// One that is under way until it is dropped.
pub struct Operation {
    operations: Arc<Operations>,
    number: u64,
    entry: Arc<Entry>,
    call: Option<trace::Call>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Operations {
    /// Operations whose stages become these figures.
    pub fn new(figures: Arc<Figures>) -> Arc<Self> {
        Arc::new(Self { table: Mutex::default(), figures })
    }

    /// The figures of the daemon.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// The same, for who counts beside them.
    pub fn shared_figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures)
    }

    /// Begins an operation of a call on an object, which can have a place for what is under
    /// way with it.
    pub fn begin(
        self: &Arc<Self>,
        name: &'static str,
        what: &'static str,
        id: &str,
        place: Option<&Stage>,
    ) -> Operation {
        let now = Now::new(BEGINNING, Duration::ZERO, None);
        let entry = Entry { name, what, id: id.to_owned(), since: now.since, now: Mutex::new(now) };
        let entry = Arc::new(entry);
        if let Some(place) = place {
            place.add(&entry);
        }
        let mut table = locked(&self.table);
        let number = table.next;
        table.next += 1;
        table.entries.insert(number, Arc::clone(&entry));
        drop(table);
        let call = trace::current();
        if let Some(call) = &call {
            call.is_about(name, what, id);
        }
        Operation { operations: Arc::clone(self), number, entry, call }
    }

    /// What is under way, the oldest first.
    pub fn list(&self) -> Vec<UnderWay> {
        self.entries().iter().map(|entry| entry.look()).collect()
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        locked(&self.table).entries.values().cloned().collect()
    }

    /// Tells of operations that are stuck, once for each stage, until the daemon ends.
    pub async fn watch(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for entry in self.entries() {
                if entry.is_news() {
                    tell(&entry).await;
                }
            }
        }
    }
}

/// Says in the log that an operation is stuck.
async fn tell(entry: &Arc<Entry>) {
    let process = locked(&entry.now).process;
    let words = match process {
        Some(process) => kernel::place_of(process).await,
        None => String::new(),
    };
    let under_way = entry.look();
    locked(&entry.now).told.get_or_insert_with(|| words.clone());
    warn!(
        call = under_way.name,
        object = format!("{} {}", under_way.what, under_way.id),
        stage = under_way.stage,
        seconds = under_way.stage_age.as_secs(),
        kernel = words,
        "a call is stuck"
    );
}

impl Now {
    fn new(stage: &'static str, expected: Duration, process: Option<u32>) -> Self {
        let (since, began) = (Instant::now(), SystemTime::now());
        Self { stage, since, began, moved: since, expected, process, told: None }
    }

    fn is_stuck(&self) -> bool {
        self.moved.elapsed() > self.expected.saturating_add(STUCK)
    }
}

impl Entry {
    fn look(&self) -> UnderWay {
        let now = locked(&self.now);
        UnderWay {
            name: self.name,
            what: self.what,
            id: self.id.clone(),
            age: self.since.elapsed(),
            stage: now.stage,
            stage_age: now.since.elapsed(),
            is_stuck: now.is_stuck(),
            kernel: now.told.clone().filter(|words| !words.is_empty()),
        }
    }

    /// Whether it is stuck and nobody was told.
    fn is_news(&self) -> bool {
        let now = locked(&self.now);
        now.told.is_none() && now.is_stuck()
    }
}

impl Operation {
    /// Comes to a stage, which ends the one before it.
    pub fn stage(&self, stage: &'static str) {
        self.stage_of(stage, Duration::ZERO);
    }

    /// The same for a stage that takes so long by its nature, as a grace period does.
    pub fn stage_of(&self, stage: &'static str, expected: Duration) {
        let process = locked(&self.entry.now).process;
        self.change(Now::new(stage, expected, process));
    }

    fn change(&self, next: Now) {
        let last = std::mem::replace(&mut *locked(&self.entry.now), next);
        self.is_over(&last);
    }

    /// Notes that the stage moves on, however long it takes.
    pub fn moves(&self) {
        locked(&self.entry.now).moved = Instant::now();
    }

    /// Notes which process it waits for, if any.
    pub fn waits_for(&self, process: Option<u32>) {
        locked(&self.entry.now).process = process;
    }

    /// Notes that this thread does its work.
    pub fn is_on_this_thread(&self) {
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        self.waits_for(Some(thread.cast_unsigned()));
    }

    /// Notes that it has failed.
    pub fn failed(&self, kind: Kind) {
        self.operations.figures.failed(self.entry.name, kind);
    }

    /// What becomes of a stage that is over.
    fn is_over(&self, last: &Now) {
        let (name, stage, age) = (self.entry.name, last.stage, last.since.elapsed());
        if last.told.is_some() {
            let object = format!("{} {}", self.entry.what, self.entry.id);
            info!(call = name, object, stage, seconds = age.as_secs(), "a stuck call goes on");
        }
        if stage == BEGINNING && age < Duration::from_millis(1) {
            return;
        }
        self.operations.figures.stage(name, stage, age);
        if let Some(call) = &self.call {
            call.stage(name, (self.entry.what, &self.entry.id), stage, last.began);
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        locked(&self.operations.table).entries.remove(&self.number);
        let process = None;
        self.change(Now::new(BEGINNING, Duration::ZERO, process));
    }
}

impl Stage {
    fn add(&self, entry: &Arc<Entry>) {
        let mut entries = locked(&self.entries);
        entries.retain(|entry| entry.strong_count() > 0);
        entries.push(Arc::downgrade(entry));
    }

    /// The operations that are under way with the object, the oldest first.
    pub fn under_way(&self) -> Vec<UnderWay> {
        locked(&self.entries).iter().filter_map(Weak::upgrade).map(|entry| entry.look()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operations() -> Arc<Operations> {
        Operations::new(Arc::default())
    }

    fn grows_older(operation: &Operation, age: Duration) {
        let mut now = locked(&operation.entry.now);
        now.moved -= age;
        now.since -= age;
    }

    #[test]
    fn an_operation_is_under_way_until_it_is_dropped() {
        let (operations, place) = (operations(), Stage::default());
        let operation = operations.begin("StopContainer", "container", "c", Some(&place));
        operation.stage("waiting for its end");
        let seen = operations.list();
        assert_eq!((seen.len(), seen[0].stage), (1, "waiting for its end"));
        assert_eq!(place.under_way()[0].name, "StopContainer");
        drop(operation);
        assert_eq!((operations.list(), place.under_way()), (Vec::new(), Vec::new()));
    }

    #[test]
    fn one_that_takes_longer_than_it_should_is_stuck_until_it_moves() {
        let operations = operations();
        let operation = operations.begin("StopContainer", "container", "c", None);
        operation.stage_of("waiting for its end", Duration::from_secs(30));
        grows_older(&operation, Duration::from_secs(35));
        assert!(!operations.list()[0].is_stuck, "a grace period is no fault");
        grows_older(&operation, Duration::from_secs(10));
        assert!(operations.list()[0].is_stuck);
        operation.moves();
        assert!(!operations.list()[0].is_stuck);
        assert!(operations.list()[0].stage_age > Duration::from_secs(40));
        operation.stage_of("for ever", Duration::MAX);
        grows_older(&operation, Duration::from_secs(100));
        assert!(!operations.list()[0].is_stuck);
    }

    #[tokio::test]
    async fn that_it_is_stuck_is_news_once_for_each_stage_with_its_place_in_the_kernel() {
        let operations = operations();
        let operation = operations.begin("CreateContainer", "container", "c", None);
        operation.is_on_this_thread();
        for stage in ["one", "two"] {
            operation.stage(stage);
            assert!(!operation.entry.is_news());
            grows_older(&operation, Duration::from_secs(11));
            assert!(operation.entry.is_news());
            tell(&operation.entry).await;
            assert!(!operation.entry.is_news());
            let words = operations.list()[0].kernel.clone().unwrap();
            assert!(words.starts_with("process "), "{words}");
        }
    }
}

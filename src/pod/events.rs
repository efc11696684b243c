//! What happened to pods and containers, for those who want to be told (KEP-3386).
//!
//! There is one log of what happened, bounded in length and age. Each subscriber has a place in
//! it and reads on from there, as fast as it likes: a slow one holds up nobody, and one that is
//! so far behind that something it has not seen is gone is told so. A new one begins with what
//! nobody has been told yet, so that a client that reconnects misses nothing.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    Container, Sandbox,
    happening::{Happening, Tell},
    time::now,
};

/// The most that is kept.
const LENGTH: usize = 4096;
/// The oldest that is told to a new subscriber.
pub(super) const AGE: Duration = Duration::from_secs(5 * 60);

/// Whom it happened to.
#[derive(Clone)]
pub enum Subject {
    /// A sandbox.
    Sandbox(Arc<Sandbox>),
    /// A container.
    Container(Arc<Container>),
}

/// One thing that happened.
#[derive(Clone)]
pub struct Event {
    /// What.
    pub happening: Happening,
    /// To whom.
    pub subject: Subject,
    /// When, in nanoseconds since the epoch.
    pub at: i64,
}

struct Entry {
    event: Event,
    since: Instant,
}

/// The log.
pub struct Events {
    // Held for one insertion or one look.
    log: Mutex<Log>,
    /// The number of the next event.
    next: watch::Sender<u64>,
    // Held for one insertion or one look.
    readers: Mutex<Vec<Weak<AtomicU64>>>,
    /// Subscribers that were too far behind.
    left_behind: AtomicU64,
}

/// Who reads the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Readers {
    /// How many there are.
    pub count: usize,
    /// How many events the slowest has not read.
    pub behind: u64,
    /// How many were too far behind, since the daemon's start.
    pub left_behind: u64,
    /// How many events there were, since the daemon's start.
    pub events: u64,
}

#[derive(Default)]
struct Log {
    entries: VecDeque<Entry>,
    /// The number of the first entry.
    first: u64,
    /// The number up to which somebody has been told.
    told: u64,
}

/// A place in the log.
pub struct Subscription {
    events: Weak<Events>,
    /// Where it is, for who counts.
    place: Arc<AtomicU64>,
    next: watch::Receiver<u64>,
}

/// The subscriber is so far behind that something it has not seen is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Behind {
    /// How much of it.
    pub missed: u64,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            log: Mutex::default(),
            next: watch::Sender::new(0),
            readers: Mutex::default(),
            left_behind: AtomicU64::new(0),
        }
    }
}

impl Events {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes down what happened. The order of calls is the order in which it is told.
    fn happened(&self, happening: Happening, subject: Subject) {
        let event = Event { happening, subject, at: now() };
        let next = {
            let mut log = self.log();
            log.entries.push_back(Entry { event, since: Instant::now() });
            if log.entries.len() > LENGTH {
                log.entries.pop_front();
                log.first += 1;
            }
            log.first + log.entries.len() as u64
        };
        self.next.send_replace(next);
    }

    /// Forgets what is older than anything that is told to a new subscriber, and with it the
    /// containers that it is about and that are gone; how much that was.
    pub(super) fn forget_old(&self, age: Duration) -> usize {
        let mut log = self.log();
        let old = log.entries.iter().take_while(|entry| entry.since.elapsed() > age).count();
        log.entries.drain(..old);
        log.first += old as u64;
        old
    }

    /// What containers tell by. It does not keep the log, which has those that it is about.
    pub(super) fn of_containers(self: &Arc<Self>) -> Tell<Container> {
        let events = Arc::downgrade(self);
        Box::new(move |happening, container| {
            if let Some(events) = events.upgrade() {
                events.happened(happening, Subject::Container(container));
            }
        })
    }

    /// What sandboxes tell by.
    pub(super) fn of_sandboxes(self: &Arc<Self>) -> Tell<Sandbox> {
        let events = Arc::downgrade(self);
        Box::new(move |happening, sandbox| {
            if let Some(events) = events.upgrade() {
                events.happened(happening, Subject::Sandbox(sandbox));
            }
        })
    }

    /// A place behind what others have been told of the last minutes.
    pub fn subscribe(self: &Arc<Self>) -> Subscription {
        let log = self.log();
        let old = log.entries.iter().take_while(|entry| entry.since.elapsed() > AGE).count();
        let place = log.told.max(log.first + old as u64);
        drop(log);
        let place = Arc::new(AtomicU64::new(place));
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.retain(|reader| reader.strong_count() > 0);
        readers.push(Arc::downgrade(&place));
        drop(readers);
        Subscription { events: Arc::downgrade(self), place, next: self.next.subscribe() }
    }

    /// Who reads it now.
    pub fn readers(&self) -> Readers {
        let events = *self.next.borrow();
        let readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let places = readers.iter().filter_map(Weak::upgrade).map(|place| place.load(Relaxed));
        let places: Vec<u64> = places.collect();
        let slowest = places.iter().min().copied().unwrap_or(events);
        Readers {
            count: places.len(),
            behind: events.saturating_sub(slowest),
            left_behind: self.left_behind.load(Relaxed),
            events,
        }
    }
}

impl Subscription {
    /// The next thing that happened; waits for it. None when the daemon ends.
    ///
    /// # Errors
    /// [`Behind`]; the next call goes on with what is left.
    pub async fn next(&mut self) -> Option<Result<Event, Behind>> {
        let place = self.place.load(Relaxed);
        self.next.wait_for(|next| *next > place).await.ok()?;
        let events = self.events.upgrade()?;
        let mut log = events.log();
        if place < log.first {
            let missed = log.first - place;
            self.place.store(log.first, Relaxed);
            events.left_behind.fetch_add(1, Relaxed);
            return Some(Err(Behind { missed }));
        }
        let index = usize::try_from(place - log.first).ok()?;
        let event = log.entries.get(index)?.event.clone();
        self.place.store(place + 1, Relaxed);
        log.told = log.told.max(place + 1);
        Some(Ok(event))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Behind, Events, LENGTH, Readers, Subject};
    use crate::{
        pod::{Happening, Sandbox, SandboxPhase, SandboxRecord, id::SandboxId},
        spec::config::SandboxConfig,
    };

    fn sandbox(events: &Arc<Events>) -> Subject {
        let record = SandboxRecord {
            config: SandboxConfig::default(),
            runtime_handler: String::new(),
            created_at: 0,
            phase: SandboxPhase::Ready,
            addresses: Vec::new(),
            netns: None,
            shm: None,
            files: None,
            cgroup: "/x".into(),
            owns_cgroup: false,
            slice: None,
            monitor_cgroup: None,
            network: None,
            boot_id: String::new(),
            monitor_pid: 0,
            monitor: None,
            selinux_level: None,
            dismantled: false,
        };
        Subject::Sandbox(Sandbox::new(
            SandboxId::from("s".to_owned()),
            record,
            events.of_sandboxes(),
        ))
    }

    #[tokio::test]
    async fn one_that_is_behind_is_told_so_and_holds_up_nobody() {
        let events = Arc::new(Events::default());
        let subject = sandbox(&events);
        let (mut slow, mut fast) = (events.subscribe(), events.subscribe());
        for _ in 0..LENGTH + 3 {
            events.happened(Happening::Created, subject.clone());
            assert!(fast.next().await.unwrap().is_ok());
        }
        let length = LENGTH as u64;
        let seen = Readers { count: 2, behind: length + 3, left_behind: 0, events: length + 3 };
        assert_eq!(events.readers(), seen);
        assert_eq!(slow.next().await.unwrap().err(), Some(Behind { missed: 3 }));
        drop(fast);
        let seen = Readers { count: 1, behind: length, left_behind: 1, events: length + 3 };
        assert_eq!(events.readers(), seen);
        for _ in 0..LENGTH {
            assert!(slow.next().await.unwrap().is_ok(), "what is left is told");
        }
        events.happened(Happening::Deleted, subject);
        let last = slow.next().await.unwrap().ok().unwrap();
        assert_eq!(last.happening, Happening::Deleted);
    }

    #[tokio::test]
    async fn what_is_old_is_forgotten_and_a_subscriber_that_has_not_seen_it_is_told_so() {
        let events = Arc::new(Events::default());
        let subject = sandbox(&events);
        let mut slow = events.subscribe();
        events.happened(Happening::Created, subject.clone());
        events.happened(Happening::Stopped, subject.clone());
        assert_eq!(events.forget_old(super::AGE), 0);
        assert_eq!(events.forget_old(std::time::Duration::ZERO), 2);
        events.happened(Happening::Deleted, subject);
        assert_eq!(slow.next().await.unwrap().err(), Some(Behind { missed: 2 }));
        assert_eq!(slow.next().await.unwrap().ok().unwrap().happening, Happening::Deleted);
    }

    #[tokio::test]
    async fn what_nobody_was_told_waits_for_the_next_subscriber() {
        let events = Arc::new(Events::default());
        let subject = sandbox(&events);
        let mut first = events.subscribe();
        events.happened(Happening::Created, subject.clone());
        assert!(first.next().await.unwrap().is_ok());
        drop(first);
        events.happened(Happening::Stopped, subject.clone());
        let mut second = events.subscribe();
        let told = second.next().await.unwrap().ok().unwrap();
        assert_eq!(told.happening, Happening::Stopped, "and not what the first was told");
        drop(events);
        assert!(second.next().await.is_none(), "the daemon has ended");
    }
}

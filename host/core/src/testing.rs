//! Predictable implementations of the ports, for the tests of every crate.

mod samples;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::event::{AdmittedEvent, Event, RedactionScope, Redactor};
use crate::manifest::{ComponentRef, Limits, PluginApi, PluginManifest};
use crate::recorder::{EffectNote, FlightRecorder, OutcomeSlot, RecorderError};
use crate::step::{Descriptor, Plugin};
use crate::{Clock, Digest, Ids, PluginId, Timestamp};

pub use samples::sample_events;

/// A plugin with this component, which says that running it twice does no harm.
pub fn plugin(id: PluginId, component: &[u8]) -> Arc<Plugin> {
    let manifest = PluginManifest {
        schema: 1,
        id,
        version: "0.1.0".into(),
        api: PluginApi::Step,
        description: "test".into(),
        idempotent: true,
        component: ComponentRef { path: "test.wasm".into(), sha256: None },
        limits: Limits::default(),
        capabilities: Vec::new(),
    };
    Arc::new(Plugin {
        manifest,
        manifest_sha256: Digest::of(b"manifest"),
        component_sha256: Digest::of(component),
        folder: "plugins".into(),
    })
}

/// What such a plugin says about itself: it takes and gives anything.
pub fn descriptor(plugin: &Plugin) -> Descriptor {
    Descriptor {
        name: plugin.label(),
        version: "0.1.0".into(),
        input_schema: serde_json::json!({}),
        output_schema: serde_json::json!({}),
        capabilities: Vec::new(),
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct FixedClock(AtomicI64);

impl FixedClock {
    /// A clock at this time.
    pub fn at(time: Timestamp) -> Self {
        Self(AtomicI64::new(time.micros()))
    }
    /// Sets it, forward or back. What measures durations by it sees no time pass when it is set back.
    pub fn set(&self, time: Timestamp) {
        self.0.store(time.micros(), Ordering::SeqCst);
    }
    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap_or(0), Ordering::SeqCst);
    }
}

impl Default for FixedClock {
    /// 2026-01-01T00:00:00Z.
    fn default() -> Self {
        Self::at(Timestamp::from_micros(1_767_225_600_000_000))
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
    fn monotonic(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.load(Ordering::SeqCst)).unwrap_or(0))
    }
}

/// Ids that count up, and bytes that repeat a counter.
#[derive(Debug, Default)]
pub struct SequentialIds(AtomicU64);

impl Ids for SequentialIds {
    fn uuid(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.0.fetch_add(1, Ordering::SeqCst) + 1))
    }
    fn random(&self, buffer: &mut [u8]) {
        let seed = self.0.fetch_add(1, Ordering::SeqCst).to_le_bytes();
        for (at, byte) in buffer.iter_mut().enumerate() {
            *byte = seed[at % seed.len()].wrapping_add(u8::try_from(at % 251).unwrap_or(0));
        }
    }
}

/// A redactor that changes nothing.
#[derive(Debug)]
pub struct NoRedaction;

impl Redactor for NoRedaction {
    fn redact(&self, _: RedactionScope, _: &str) -> Option<(String, Vec<&'static str>)> {
        None
    }
}

/// What a [`MemoryRecorder`] does with the next events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Behaviour {
    /// Takes everything.
    #[default]
    Accept,
    /// Its queue is full.
    Full,
    /// The fencing token is outdated.
    Fenced,
}

/// A recorder that keeps events in memory, in the order in which they were handed over.
#[derive(Debug, Default)]
pub struct MemoryRecorder {
    events: Arc<Mutex<Vec<Event>>>,
    effects: Mutex<Vec<EffectNote>>,
    behaviour: Mutex<Behaviour>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl MemoryRecorder {
    /// All events so far.
    pub fn events(&self) -> Vec<Event> {
        locked(&self.events).clone()
    }
    /// All effects so far.
    pub fn effects(&self) -> Vec<EffectNote> {
        locked(&self.effects).clone()
    }
    /// Changes what happens next.
    pub fn behave(&self, behaviour: Behaviour) {
        *locked(&self.behaviour) = behaviour;
    }

    fn take(&self, event: &Event) -> Result<(), RecorderError> {
        match *locked(&self.behaviour) {
            Behaviour::Accept => {
                AdmittedEvent::admit(event, &NoRedaction, event.timestamp)?;
                locked(&self.events).push(event.clone());
                Ok(())
            }
            Behaviour::Full => Err(RecorderError::Full),
            Behaviour::Fenced => Err(RecorderError::Fenced),
        }
    }
}

struct MemorySlot(Arc<Mutex<Vec<Event>>>);

impl OutcomeSlot for MemorySlot {
    fn fill(self: Box<Self>, event: Event) {
        locked(&self.0).push(event);
    }
}

#[async_trait]
impl FlightRecorder for MemoryRecorder {
    fn admit(&self, event: &Event) -> Result<AdmittedEvent, RecorderError> {
        Ok(AdmittedEvent::admit(event, &NoRedaction, event.timestamp)?)
    }
    fn enqueue(&self, event: &Event) -> Result<(), RecorderError> {
        self.take(event)
    }
    fn reserve(&self) -> Result<Box<dyn OutcomeSlot>, RecorderError> {
        match *locked(&self.behaviour) {
            Behaviour::Full => Err(RecorderError::Full),
            Behaviour::Accept | Behaviour::Fenced => Ok(Box::new(MemorySlot(Arc::clone(&self.events)))),
        }
    }
    async fn record_event(&self, event: &Event) -> Result<(), RecorderError> {
        self.take(event)
    }
    async fn record_effect(&self, note: EffectNote, event: &Event) -> Result<(), RecorderError> {
        self.take(event)?;
        locked(&self.effects).push(note);
        Ok(())
    }
    async fn flush(&self) -> Result<(), RecorderError> {
        Ok(())
    }
}

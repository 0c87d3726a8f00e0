//! The disk is full, or fails, at each operation of a run in turn: a file is created, written, synced, sealed. What
//! is acknowledged is stored, whoever reads goes on reading, and what stood still goes on by itself.
//!
//! At the end of each run the power fails as well, and what is found is what was synced and nothing else.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gateway::config::Config;
use gateway_protocol::packet::{Ack, Packet};
use gateway_protocol::{PacketId, Properties, Property};
use gateway_storage::log::segments::disk::RealDisk;
use gateway_tests::{Client, Frame, Hello, ProtocolVersion, QoS, ReasonCode, readiness, wait};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::Load;
use crate::event::Event;
use crate::lab::disk::{Errno, Fault, LabDisk};
use crate::lab::wreck::Fate;
use crate::lab::{InProcess, config, logs, try_connect};
use crate::tally::Tally;
use crate::traffic::{BACKEND, publish_last};

/// Events in a run.
const EVENTS: u32 = 40;
/// Deliveries that the durable subscriber has unacknowledged at once.
const WINDOW: u16 = 4;
/// From the end of a fault to the first acknowledgement after it.
const RESUMED: Duration = Duration::from_secs(5);
/// How long a step may take on a machine that has other things to do.
const STEP: Duration = Duration::from_secs(15);
/// A receiver that gets nothing for this long gets nothing more.
const QUIET: Duration = Duration::from_millis(300);
/// Runs side by side; they mostly wait.
const SIDE_BY_SIDE: usize = 10;

/// A run up to and beyond one fault.
struct Script {
    name: String,
    disk: LabDisk,
    config: Config,
    gateway: InProcess,
    publisher: Option<Client>,
    backend: Option<Client>,
    backend_tally: Tally,
    /// Received by the durable subscriber and not acknowledged.
    held: Vec<PacketId>,
    acknowledged: u32,
    /// How long it took to go on after the fault.
    resumed: Option<Duration>,
}

impl Script {
    fn begin(name: String, data: &Path, disk: &LabDisk) -> Self {
        let mut config = config(data, &["storage.view_save_interval_ms=100"]);
        // Smaller than may be configured: a file is full after some ten events.
        config.storage.segment_bytes = 2 << 10;
        let gateway = match InProcess::start(config.clone(), Arc::new(disk.clone())) {
            Ok(gateway) => gateway,
            Err(error) => {
                assert!(disk.has_struck(), "{name}: {error}");
                assert!(error.to_string().contains(' '), "{name}: a sentence says why: {error}");
                disk.lift();
                InProcess::start(config.clone(), Arc::new(disk.clone())).expect("it starts without the fault")
            }
        };
        Self {
            name,
            disk: disk.clone(),
            config,
            gateway,
            publisher: None,
            backend: None,
            backend_tally: Tally::new(2),
            held: Vec::new(),
            acknowledged: 0,
            resumed: None,
        }
    }

    fn run(&mut self) {
        if !self.subscribe() {
            self.meet_the_fault();
        }
        while self.acknowledged < EVENTS {
            if !self.publish() {
                self.publisher = None;
                self.meet_the_fault();
            }
            // One window is always held back, so that there is something to drain when the fault strikes.
            if self.acknowledged.is_multiple_of(2 * u32::from(WINDOW)) {
                self.drain(QUIET / 10);
            }
        }
    }

    /// The durable subscriber connects and subscribes.
    fn subscribe(&mut self) -> bool {
        let hello = Hello::durable(ProtocolVersion::V5, BACKEND).with(Property::ReceiveMaximum(WINDOW));
        let Some((mut client, _)) = try_connect(self.gateway.mqtt, &hello) else { return false };
        client.send_bytes(&crate::consumer::subscribe("devices/#", QoS::AtLeastOnce, ProtocolVersion::V5));
        match client.receive(STEP) {
            Ok(frame) if matches!(frame.packet(), Packet::SubAck(_)) => {
                self.backend = Some(client);
                true
            }
            _ => false,
        }
    }

    /// Publishes the next event. Whether it was acknowledged; else the connection is over.
    fn publish(&mut self) -> bool {
        if self.publisher.is_none() {
            let hello = Hello::new(ProtocolVersion::V5, "publisher");
            self.publisher = try_connect(self.gateway.mqtt, &hello).map(|(client, _)| client);
        }
        let Some(client) = &mut self.publisher else { return false };
        let event = Event { publisher: 0, number: self.acknowledged };
        let payload = event.payload();
        let topic = "devices/0/telemetry";
        client.send_publish_with(topic, &payload, QoS::AtLeastOnce, Properties::default());
        match client.receive(STEP) {
            Ok(frame) => match frame.packet() {
                Packet::PubAck(ack) => {
                    assert_eq!(ack.reason_code, ReasonCode::Success, "{}", self.name);
                    assert!(
                        self.disk.has_synced(&payload),
                        "{}: {event:?} is acknowledged and not on stable storage",
                        self.name
                    );
                    self.acknowledged += 1;
                    true
                }
                Packet::Disconnect(_) => false,
                other => panic!("{}: {other:?}", self.name),
            },
            Err(ended) => {
                assert_eq!(ended, gateway_tests::Ended::Closed, "{}: neither answered nor closed", self.name);
                false
            }
        }
    }

    /// Something was refused. It must be the fault, and in its course everything that is stored can be read; after it,
    /// publishing goes on by itself.
    fn meet_the_fault(&mut self) {
        assert!(self.disk.has_struck(), "{}: refused without a fault", self.name);
        assert!(self.resumed.is_none(), "{}: refused again after the fault", self.name);
        let lasts = readiness(self.gateway.admin);
        self.read_stream_during_the_fault();
        if self.backend.is_some() {
            self.drain(QUIET);
            let (lost, who) = (self.backend_tally.lost(&[self.acknowledged, 0]), &self.name);
            assert_eq!(lost, 0, "{who}: the durable subscriber is not given what is stored");
        }
        if let Err(reasons) = &lasts {
            assert!(reasons.contains("storage failed"), "{}: /readyz says {reasons}", self.name);
        }
        let lifted = Instant::now();
        self.disk.lift();
        wait::until(&format!("{}: it goes on", self.name), STEP, || {
            self.publisher = None;
            // Nothing is published for a subscriber that is not there yet.
            let goes_on = if self.backend.is_none() { self.subscribe() } else { self.publish() };
            goes_on.then_some(())
        });
        let resumed = lifted.elapsed();
        assert!(resumed < RESUMED, "{}: took {resumed:?} to go on", self.name);
        // Saving the view may be a little later.
        wait::until(&format!("{}: /readyz", self.name), STEP, || readiness(self.gateway.admin).ok());
        self.resumed = Some(resumed);
    }

    /// A reader that comes during the fault is given all that was acknowledged.
    fn read_stream_during_the_fault(&self) {
        let hello = Hello::new(ProtocolVersion::V5, "reader");
        let (mut reader, _) = Client::connect(self.gateway.mqtt, &hello);
        reader.subscribe(&[("$stream/telemetry/earliest/#", QoS::AtLeastOnce)]);
        let mut tally = Tally::new(2);
        receive(&mut reader, QUIET, &mut tally, acknowledge);
        let lost = tally.lost(&[self.acknowledged, 0]);
        assert_eq!(lost, 0, "{}: the stream cannot be read during the fault", self.name);
    }

    /// The durable subscriber acknowledges what it holds and takes what follows, until nothing comes.
    fn drain(&mut self, quiet: Duration) {
        let Some(backend) = &mut self.backend else { return };
        for packet_id in self.held.drain(..) {
            acknowledge(backend, packet_id);
        }
        let held = &mut self.held;
        receive(backend, quiet, &mut self.backend_tally, |backend, packet_id| {
            // The last of a window is acknowledged, and by that all of it; what comes then is held back again.
            held.push(packet_id);
            if held.len() >= usize::from(WINDOW) {
                held.drain(..).for_each(|packet_id| acknowledge(backend, packet_id));
            }
        });
    }

    /// The power fails; what was acknowledged is found by the next start.
    fn end(self, found: &Path) -> String {
        let Self { name, disk, config, gateway, mut backend_tally, acknowledged, resumed, .. } = self;
        let wreck = disk.cut_power();
        gateway.stop();
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        wreck.salvage(&config.storage.data_dir, found, Some(Fate::Dropped), &mut rng);
        let mut after = config.clone();
        after.storage.data_dir = found.into();
        let gateway =
            InProcess::start(after, Arc::new(RealDisk)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let hello = Hello::durable(ProtocolVersion::V5, BACKEND);
        let (mut backend, present) = Client::connect(gateway.mqtt, &hello);
        assert!(present, "{name}: the session is lost");
        let (mut reader, _) = Client::connect(gateway.mqtt, &Hello::new(ProtocolVersion::V5, "reader"));
        reader.subscribe(&[("$stream/telemetry/earliest/#", QoS::AtLeastOnce)]);
        publish_last(gateway.mqtt, Event { publisher: 1, number: 0 });
        let mut stream = Tally::new(2);
        for (client, tally) in [(&mut backend, &mut backend_tally), (&mut reader, &mut stream)] {
            while tally.next_of(1) == 0 {
                let frame = client.await_frame("PUBLISH", |packet| matches!(packet, Packet::Publish(_)));
                let (event, packet_id) = delivery(&frame).expect("a PUBLISH");
                acknowledge(client, packet_id);
                tally.take(event);
            }
        }
        backend_tally.assert_complete(&format!("{name}: the durable subscriber"), &[acknowledged, 1]);
        stream.assert_complete(&format!("{name}: the stream"), &[acknowledged, 1]);
        gateway.stop();
        match resumed {
            Some(resumed) => format!("{name}: went on after {resumed:.1?}"),
            None => format!("{name}: no client was refused"),
        }
    }
}

/// Takes messages until none has come for so long.
fn receive(
    client: &mut Client,
    quiet: Duration,
    tally: &mut Tally,
    mut taken: impl FnMut(&mut Client, PacketId),
) {
    while let Ok(frame) = client.receive(quiet) {
        if let Some((event, packet_id)) = delivery(&frame) {
            tally.take(event);
            taken(client, packet_id);
        }
    }
}

/// The event of a PUBLISH, and its Packet Identifier.
fn delivery(frame: &Frame) -> Option<(Event, PacketId)> {
    match frame.packet() {
        Packet::Publish(publish) => Some((Event::read(publish.payload), publish.packet_id?)),
        _ => None,
    }
}

fn acknowledge(client: &mut Client, packet_id: PacketId) {
    client.send(&Packet::PubAck(Ack::success(packet_id)));
}

fn run(fault: Option<Fault>) -> (u64, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = LabDisk::default();
    let name = match fault {
        Some(fault) => {
            disk.fail(fault);
            let lasting = if fault.lasting { "lasting from" } else { "once at" };
            format!("{:?} {lasting} operation {}", fault.errno, fault.at)
        }
        None => "no fault".to_owned(),
    };
    let mut script = Script::begin(name, &dir.path().join("data"), &disk);
    script.run();
    let operations = disk.operations();
    (operations, script.end(&dir.path().join("found")))
}

#[test]
fn a_full_or_failing_disk_costs_nothing_that_was_acknowledged() {
    let _shown = logs::ShownOnFailure;
    let load = Load::from_environment();
    let (operations, summary) = run(None);
    eprintln!("{summary}: {operations} operations");
    let faults = u64::from(load.faults);
    let nth = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let nth = u64::from(nth.fetch_add(1, Ordering::Relaxed));
                    if nth >= faults {
                        return;
                    }
                    let at = 1 + nth * operations / faults;
                    let errno = if nth % 2 == 0 { Errno::NoSpace } else { Errno::Io };
                    let fault = Fault { at, errno, lasting: nth % 4 < 2 };
                    eprintln!("{}", run(Some(fault)).1);
                }
            });
        }
    });
}

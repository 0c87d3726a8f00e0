//! Fleets: `[fleet]`, its `[[cohort]]`s, and the fleets that come with the simulator (`use = "smart-meters"`).
//!
//! Every key of a cohort may stand in `[fleet]` too and holds for all cohorts then. With `use`, the keys of the scenario's
//! `[fleet]` go before those of the fleet that is used, and cohorts of the scenario replace its cohorts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use toml::Table;

use super::cohort::{Class, Cohort};
use super::layers::Layers;
use super::section::{Faults, Section};
use super::topic::TopicTemplate;
use super::{Clients, Fleet, KEEP_ALIVE_S, LEAN_DEVICES_MAX, LEAN_KEEP_ALIVE_S, behaviour, clients, model};
use crate::fleets;
use crate::model::world::START_UNIX_MS;
use crate::model::{ModelSpec, builtin};
use crate::payload::{Encoder, PayloadSpec};
use crate::scenario::rhythm::{Arrivals, Rhythm};

/// The most cohorts of a fleet.
const COHORTS_MAX: usize = 64;

/// The largest fleet file that is read.
const FLEET_BYTES_MAX: u64 = 1 << 20;

const SPARKPLUG_TOPIC: &str = "spBv1.0/{site}/DDATA/{device}/{model}";
const TOPIC: &str = "devices/{site}/{device}/telemetry";

/// Reads `[fleet]`, `[[cohort]]` and `[[model]]`; none if a fault leaves nothing to build.
pub(super) fn read(top: &Section<'_>, faults: &Faults) -> Option<Fleet> {
    let section = top.section("fleet");
    let base = base_table(&section);
    let base_top = Section::new("fleet.use".to_owned(), base.as_ref(), faults);
    base_top.optional::<String>("description");
    let base_fleet = base_top.section("fleet");
    let mut models = model::models(top);
    models.extend(model::models(&base_top));

    let (own, base_cohorts) = (top.sections("cohort"), base_top.sections("cohort"));
    let fleet_layers = Layers::new(&section, [&base_fleet]);
    let mut cohorts: Vec<Draft> = Vec::new();
    if own.is_empty() && base_cohorts.is_empty() {
        cohorts.extend(draft(&section, &fleet_layers, &models, Some("fleet")));
    } else if own.is_empty() {
        for cohort in &base_cohorts {
            cohorts.extend(draft(cohort, &Layers::new(&section, [cohort, &base_fleet]), &models, None));
        }
    } else {
        for cohort in own.iter().take(COHORTS_MAX) {
            cohorts.extend(draft(cohort, &Layers::new(cohort, [&section, &base_fleet]), &models, None));
        }
    }
    if own.len() > COHORTS_MAX {
        top.fault("cohort", &format!("at most {COHORTS_MAX} are possible"));
    }
    let fleet = fleet(&section, &fleet_layers, cohorts);
    // Cohorts that are replaced were never read.
    let read = if own.is_empty() { base_cohorts } else { own };
    read.into_iter().for_each(Section::finish);
    base_fleet.finish();
    base_top.finish();
    section.finish();
    fleet
}

/// The table of the fleet that `use` names.
fn base_table(section: &Section<'_>) -> Option<Table> {
    let name: String = section.optional("use")?;
    let text = match fleets::by_name(&name) {
        Some(text) => Ok(text.to_owned()),
        None if name.ends_with(".toml") => read_file(Path::new(&name)),
        None => Err(format!(
            "there is no fleet `{name}`; there are {}, or the path of a .toml file",
            fleets::names().collect::<Vec<_>>().join(", ")
        )),
    };
    let table = text.and_then(|text| text.parse().map_err(|error| format!("`{name}` is not TOML: {error}")));
    table.map_err(|what| section.fault("use", &what)).ok()
}

fn read_file(path: &Path) -> Result<String, String> {
    let unreadable = |error| format!("cannot read {}: {error}", path.display());
    if std::fs::metadata(path).map_err(unreadable)?.len() > FLEET_BYTES_MAX {
        return Err(format!("{} is larger than {FLEET_BYTES_MAX} bytes", path.display()));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

/// A cohort before its devices are counted.
struct Draft {
    cohort: Cohort,
    devices: Option<u32>,
    share: f64,
    /// Events per second: of each device, or of the cohort.
    pace: Option<Pace>,
}

#[derive(Clone, Copy)]
enum Pace {
    EachDevice(f64),
    Cohort(f64),
}

fn fleet(own: &Section<'_>, keys: &Layers<'_, '_>, drafts: Vec<Draft>) -> Option<Fleet> {
    let fixed: u64 = drafts.iter().filter_map(|draft| draft.devices).map(u64::from).sum();
    let all_fixed = !drafts.is_empty() && drafts.iter().all(|draft| draft.devices.is_some());
    if !keys.has("devices") && !all_fixed {
        keys.fault("devices", "is missing");
    }
    let most = clients::devices_max(own);
    let devices = keys.count("devices", fixed.clamp(1, most), 1, most);
    if all_fixed && fixed != devices {
        keys.fault("devices", &format!("{devices} is not the sum of the cohorts' devices, {fixed}"));
    } else if fixed > devices {
        keys.fault("devices", &format!("the cohorts alone have {fixed}"));
    }
    let rate = keys.has("rate").then(|| keys.number("rate", 1.0, 0.001, 10_000_000.0));
    let paced =
        keys.has("interval") || (!drafts.is_empty() && drafts.iter().all(|draft| draft.pace.is_some()));
    if rate.is_none() && !paced {
        keys.fault("rate", "is missing");
    }
    let cohorts = placed(drafts, devices as u32, fixed.min(devices) as u32, rate);
    let clients = clients::clients(own, devices as u32, &cohorts);
    let keep_alive = match clients {
        Clients::Honest => KEEP_ALIVE_S,
        Clients::Lean(_) => LEAN_KEEP_ALIVE_S,
    };
    Some(Fleet {
        clients,
        devices: cohorts.last().map_or(0, Cohort::end),
        sites: keys.count("sites", 10, 1, 10_000) as u32,
        rate: cohorts.iter().map(|cohort| cohort.rhythm.rate).sum(),
        client_id_prefix: client_id_prefix(keys),
        time_scale: keys.number("time_scale", 1.0, 0.001, 100_000.0),
        start_unix_ms: keys
            .at("start")
            .optional::<behaviour::Moment>("start")
            .map_or(START_UNIX_MS, |moment| moment.0),
        inflight_max: keys.count("inflight_max", 32, 1, 1_000) as u16,
        queue_max: keys.count("queue_max", 128, 1, 100_000) as usize,
        keep_alive_s: keys.count("keep_alive", keep_alive.into(), 1, u16::MAX.into()) as u16,
        connect_rate: keys.number("connect_rate", 1_000.0, 1.0, 100_000.0),
        cohorts: cohorts.into_iter().map(Arc::new).collect(),
    })
    .filter(|fleet| fleet.devices > 0)
}

/// Gives every cohort its devices and its rate. Cohorts that are left without devices are left out.
fn placed(drafts: Vec<Draft>, devices: u32, fixed: u32, rate: Option<f64>) -> Vec<Cohort> {
    let free = devices - fixed;
    let shares: f64 = drafts.iter().filter(|draft| draft.devices.is_none()).map(|draft| draft.share).sum();
    let (mut seen, mut given, mut first) = (0.0, 0, 0);
    let mut cohorts = Vec::with_capacity(drafts.len());
    for Draft { mut cohort, devices: own, share, pace } in drafts {
        let count = own.unwrap_or_else(|| {
            // By the sum so far, so that rounding neither loses nor makes a device.
            seen += share;
            let so_far = if shares > 0.0 { (f64::from(free) * seen / shares).round() as u32 } else { free };
            std::mem::replace(&mut given, so_far).abs_diff(so_far)
        });
        cohort.first = first;
        cohort.rhythm.devices = count;
        cohort.rhythm.rate = match pace {
            Some(Pace::EachDevice(rate)) => rate * f64::from(count),
            Some(Pace::Cohort(rate)) => rate,
            None => rate.unwrap_or(1.0) * f64::from(count) / f64::from(devices.max(1)),
        };
        first += count;
        if count > 0 {
            cohorts.push(cohort);
        }
    }
    let sum: f64 = cohorts.iter().map(|cohort| cohort.rhythm.rate).sum();
    if let Some(rate) = rate.filter(|_| sum > 0.0) {
        for cohort in &mut cohorts {
            cohort.rhythm.rate *= rate / sum;
        }
    }
    cohorts
}

/// Reads one cohort. `own` are its own keys; a fleet without cohorts is one cohort with the `name` given.
fn draft(
    own: &Section<'_>,
    keys: &Layers<'_, '_>,
    models: &[ModelSpec],
    name: Option<&str>,
) -> Option<Draft> {
    let of_fleet = name.is_some();
    let name = name.map_or_else(|| own.required("name", String::new()), str::to_owned);
    if name.is_empty() || name.len() > 64 || name.contains(['/', '+', '#', '\0']) {
        own.fault("name", "must be 1 to 64 bytes without / + or #, since it may become part of topics");
    }
    let model = model_of(keys, models);
    let spec = behaviour::payload(keys);
    let sparkplug = spec == PayloadSpec::Sparkplug;
    let payload = model.as_ref().and_then(|model| {
        Encoder::new(&spec, model).map_err(|fault| keys.fault("payload", &fault.to_string())).ok()
    });
    let topic = keys.or("topic", if sparkplug { SPARKPLUG_TOPIC } else { TOPIC }.to_owned());
    let topic = TopicTemplate::parse(&topic).map_err(|what| keys.fault("topic", &what)).ok();
    if let Some(topic) = topic.as_ref().filter(|topic| sparkplug && !topic.is_sparkplug()) {
        let what = format!("`{}` is not spBv1.0/<group>/DDATA/<node>/<device>", topic.as_str());
        keys.fault("topic", &what);
    }
    let (devices, share) = match of_fleet {
        true => (None, 1.0),
        false => (
            own.raw("devices").map(|_| own.count("devices", 1, 1, LEAN_DEVICES_MAX.into()) as u32),
            own.number("share", 1.0, 0.0, 1e9),
        ),
    };
    let [qos1_share, qos2_share] = behaviour::qos(keys.at("qos"), if sparkplug { 0.0 } else { 0.8 });
    let v5_share = behaviour::v5_share(keys.at("protocol"));
    let cohort = Cohort {
        first: 0,
        rhythm: Rhythm {
            devices: 0,
            rate: 0.0,
            arrivals: arrivals(keys),
            qos1_share,
            qos2_share,
            uplink: behaviour::uplink(keys),
        },
        v5_share,
        durable: keys.choice("session", &[("durable", true), ("clean", false)], true),
        own_worker: !of_fleet && own.choice("worker", &[("shared", false), ("own", true)], false),
        client_id_prefix: client_id_prefix(keys),
        class: keys.choice("class", &Class::ALL.map(|class| (class.as_str(), class)), Class::Normal),
        report: behaviour::report(keys),
        clock: behaviour::clock(keys),
        status: behaviour::template(keys, "status"),
        state: behaviour::state(keys),
        commands: behaviour::commands(keys),
        name,
        topic: topic?,
        model: Arc::new(model?),
        payload: Arc::new(payload?),
    };
    Some(Draft { cohort, devices, share, pace: pace(own, keys, of_fleet) })
}

fn model_of(keys: &Layers<'_, '_>, models: &[ModelSpec]) -> Option<ModelSpec> {
    let name = keys.or("model", "cold-room".to_owned());
    let found = models.iter().find(|known| known.name == name).cloned().or_else(|| builtin::by_name(&name));
    if found.is_none() {
        let mut known: Vec<&str> = builtin::NAMES.to_vec();
        known.extend(models.iter().map(|model| model.name.as_str()));
        keys.fault("model", &format!("there is no model `{name}`; there are {}", known.join(", ")));
    }
    found
}

fn arrivals(keys: &Layers<'_, '_>) -> Arrivals {
    let jitter = keys.number("jitter", 0.2, 0.0, 0.5);
    match keys.choice("arrivals", &[("periodic", true), ("poisson", false)], true) {
        true => Arrivals::Periodic { jitter },
        false => Arrivals::Poisson,
    }
}

/// A cohort's own `rate`, or its or the fleet's `interval`.
fn pace(own: &Section<'_>, keys: &Layers<'_, '_>, of_fleet: bool) -> Option<Pace> {
    if keys.has("interval") {
        let interval = keys.or("interval", Duration::from_secs(1));
        if interval < Duration::from_millis(1) {
            keys.fault("interval", "must be 1 ms or more");
            return None;
        }
        return Some(Pace::EachDevice(1.0 / interval.as_secs_f64()));
    }
    let own_rate = !of_fleet && own.raw("rate").is_some();
    own_rate.then(|| Pace::Cohort(own.number("rate", 1.0, 0.001, 10_000_000.0)))
}

fn client_id_prefix(keys: &Layers<'_, '_>) -> String {
    let prefix = keys.or("client_id_prefix", "dev-".to_owned());
    if prefix.is_empty() || prefix.len() > 64 || prefix.contains(['/', '+', '#', '\0']) {
        keys.fault(
            "client_id_prefix",
            "must be 1 to 64 bytes without / + or #, since it becomes part of topics",
        );
    }
    prefix
}

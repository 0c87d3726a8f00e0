//! Reading events out of a store, one line of JSON each.

use std::io::Write;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Serialize;

use super::place::Place;
use super::{Finding, OfflineError};
use crate::entry::Event;
use crate::offset::Offset;

/// What is read at once.
const PAGE_BYTES: usize = 4 << 20;
/// Stretches a report lists; the rest is counted.
const MISSING_MAX: usize = 1000;

/// What [`export`] did.
#[derive(Debug, Default)]
pub struct ExportReport {
    /// Events written.
    pub events: u64,
    /// Where reading began: not before the log does.
    pub from: Offset,
    /// The offset behind the last one looked at.
    pub to: Offset,
    /// What could not be read on the way, at most 1000 stretches of it.
    pub missing: Vec<Finding>,
    /// How many stretches there were.
    pub missing_count: u64,
}

/// An event as it is written. `payload` where it is UTF-8, `payload_base64` where it is not.
#[derive(Serialize)]
struct Line<'a> {
    offset: u64,
    time: String,
    client_id: &'a str,
    topic: &'a str,
    qos: u8,
    retain: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    /// MQTT 5 properties as on the wire.
    #[serde(skip_serializing_if = "String::is_empty")]
    properties_hex: String,
}

/// Writes the events at offsets `from` up to, not including, `to` to `out`, a JSON object to a line; None is the
/// beginning, or the end, of the log. Changes nothing in the store.
///
/// # Errors
///
/// When the store is in use, its log cannot be read at all, or `out` does not take what is written. Damage is no error;
/// it is in the report.
pub fn export(
    data_dir: &Path,
    from: Option<Offset>,
    to: Option<Offset>,
    out: &mut dyn Write,
) -> Result<ExportReport, OfflineError> {
    let place = Place::hold(data_dir)?;
    let log = place.open_log()??;
    let mut report = ExportReport::default();
    let Some(reader) = &log.reader else { return Ok(report) };
    let (earliest, end) = reader.bounds();
    let to = to.map_or(end, |to| to.min(end));
    report.from = from.unwrap_or(Offset::ZERO).max(earliest);
    report.to = report.from;
    while report.to < to {
        let page = match reader.read_page(report.to, PAGE_BYTES) {
            Ok(Some(page)) => page,
            Ok(None) => break,
            Err(reason) => {
                let finding = Finding::Unreadable { from: report.to, reason: Box::new(reason) };
                report.miss(finding);
                break;
            }
        };
        for index in page.batch.index_from(report.to)..page.batch.len() {
            let (Some(offset), Some(event)) = (page.batch.offset_of(index), page.batch.event(index)) else {
                continue;
            };
            if offset >= to {
                break;
            }
            write(out, offset, page.batch.time_ms(index), &event)?;
            report.events += 1;
        }
        for mut group in page.skipped.into_iter().filter(|group| group.first < to) {
            place.relocate(&mut group.file, &log);
            report.miss(Finding::of_skipped(group));
        }
        report.to = page.next.min(to);
    }
    out.flush().map_err(OfflineError::Output)?;
    Ok(report)
}

impl ExportReport {
    fn miss(&mut self, finding: Finding) {
        self.missing_count += 1;
        if self.missing.len() < MISSING_MAX {
            self.missing.push(finding);
        }
    }
}

fn write(out: &mut dyn Write, offset: Offset, time_ms: u64, event: &Event<'_>) -> Result<(), OfflineError> {
    let payload = str::from_utf8(event.payload).ok();
    let line = Line {
        offset: offset.get(),
        time: time(time_ms),
        client_id: event.client_id,
        topic: event.topic,
        qos: event.qos,
        retain: event.retain,
        payload,
        payload_base64: payload.is_none().then(|| STANDARD.encode(event.payload)),
        properties_hex: event.properties.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    serde_json::to_writer(&mut *out, &line).map_err(|error| OfflineError::Output(error.into()))?;
    out.write_all(b"\n").map_err(OfflineError::Output)
}

/// The commit time as RFC 3339 with milliseconds; what no calendar has becomes the first moment of the epoch.
fn time(time_ms: u64) -> String {
    let time = i64::try_from(time_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", time.unwrap_or(Timestamp::UNIX_EPOCH))
}

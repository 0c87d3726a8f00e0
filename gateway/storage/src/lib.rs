//! The storage of the gateway: entries in, durable offsets out.
//!
//! **Promises.** What a [`Durable`] receipt covers survives kill -9 and a power cut. Damage costs what is damaged, is
//! reported, and never stops the rest from being read. Whatever a file, a disk or a clock does ends in a typed error,
//! not in a panic. Everything that grows has a bound.
//!
//! **What it refuses to know.** No packets, no sockets, no async runtime: a topic is a string, a session's state an
//! opaque record. Those who wait are told through [`std::task::Waker`].
//!
//! **The way of an entry.** [`Staging`] encodes it on the connection's own time, [`GroupCommit`] gathers it with
//! others, a [`Log`] makes the group durable, the sink receives a [`Batch`] and a receipt. Later a [`LogReader`] reads
//! it back in pages. The [`View`] keeps what follows from the entries and can be rebuilt from them, or from a
//! [`checkpoint`] and the entries after it; [`recovery`] opens all of them and replays what the view has not seen.
//!
//! Read on in [`entry`] (the format), [`group_commit`] (the acknowledgement path), [`log`] (the files), [`view`], and
//! [`offline`] (looking at a store nobody has open).

mod batch;
mod buffers;
pub mod checkpoint;
mod compression;
pub mod entry;
mod frame;
pub mod group_commit;
mod index;
pub mod log;
pub mod offline;
mod offset;
pub mod recovery;
pub mod reserve;
pub mod staging;
pub mod verbatim;
pub mod view;

pub use batch::{Batch, Outline, RawEvent};
pub use checkpoint::{CheckpointError, Checkpoints, RebuildReport};
pub use compression::Compression;
pub use entry::{Entry, EntryError, EntryKind, Event};
pub use group_commit::{
    BeforeReopen, ClockMs, CommitSample, CommitState, CommitStats, CommittedGroup, Durability, Durable,
    GroupCommit, GroupCommitOptions, PoisonCause, ReceiptCell, SubmitError, Ticket, Urgency, Waiting,
};
pub use log::{
    Faults, GroupInfo, Log, LogError, LogReader, LogTrimmer, MemoryHandle, MemoryLog, OpenError, Page,
    ReadError, RecoveryReport, SegmentsLog, SegmentsOptions, SkippedGroup, SledLog, SledLogOptions,
    TailShows, TornTail, Trimmed,
};
pub use offset::Offset;
pub use recovery::{LogKind, Store, StoreError, StoreOptions, ViewReport};
pub use reserve::Reserve;
pub use staging::{StageError, Staging};
pub use verbatim::Verbatim;
pub use view::{
    ChangeError, Changes, CheckpointState, SetAside, SpaceState, Table, View, ViewError, ViewOpenReport,
    ViewOptions, ViewWriter,
};

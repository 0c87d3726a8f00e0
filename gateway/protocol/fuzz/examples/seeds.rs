//! Writes the corpus that both targets start from, made of the protocol crate's sample packets: `cargo +nightly run --example seeds`.

use gateway_protocol::ProtocolVersion;
use gateway_protocol::testing::{ValidPacket, valid_packets};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Settings of the session target: everything is available, and quotas are large.
const SETTINGS: u8 = 0b1000_1111;
/// Steps of the session target: receipts for all, then one for a release and one for a delivery.
const RECEIPTS: [u8; 6] = [0, 255, 1, 0, 2, 0];
/// Steps of the session target: durable deliveries at QoS 1 and 2, and live ones.
const DELIVERIES: [u8; 8] = [9, 5, 9, 6, 9, 1, 9, 2];

fn main() -> io::Result<()> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let packets = valid_packets();
    let decode = directory(&seeds, "decode")?;
    for packet in &packets {
        let choice = match packet.version {
            ProtocolVersion::V3_1 => 0,
            ProtocolVersion::V3_1_1 => 1,
            ProtocolVersion::V5 => 2,
        };
        fs::write(decode.join(file_name(packet)), [&[choice], packet.bytes.as_slice()].concat())?;
    }
    let session = directory(&seeds, "session")?;
    for connect in packets.iter().filter(|packet| is_connect(packet)) {
        let of_version =
            packets.iter().filter(|packet| packet.version == connect.version && !is_connect(packet));
        let mut program = [&[SETTINGS], connect.bytes.as_slice(), &DELIVERIES].concat();
        // The last of them are DISCONNECT, and AUTH, which ends a connection too.
        for packet in of_version {
            program.extend(&packet.bytes);
            program.extend(RECEIPTS);
        }
        fs::write(session.join(file_name(connect)), program)?;
    }
    Ok(())
}

fn is_connect(packet: &ValidPacket) -> bool {
    packet.name.contains("CONNECT") && !packet.name.contains("DISCONNECT")
}

fn directory(seeds: &Path, target: &str) -> io::Result<PathBuf> {
    let directory = seeds.join(target);
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

fn file_name(packet: &ValidPacket) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    packet.name.chars().map(plain).collect()
}

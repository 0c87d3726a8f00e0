//! Which process of this machine listens on a port, so that its CPU time and memory can be read.
//!
//! `/proc/net/tcp` has the inode of every listening socket, and `/proc/<pid>/fd` who holds it. A process of somebody else keeps
//! its descriptors to itself; then nothing is found, and nothing is claimed.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// `TCP_LISTEN`.
const LISTENING: &str = "0A";

/// The process that listens on `address`, if it runs here and can be seen.
pub(super) fn process(address: SocketAddr) -> Option<u32> {
    if !is_here(address) {
        return None;
    }
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let inode = tables.iter().find_map(|table| inode(table, address))?;
    holder(&format!("socket:[{inode}]"))
}

/// Whether the address is this machine's: the one that would be used to talk to it.
fn is_here(address: SocketAddr) -> bool {
    if address.ip().is_loopback() {
        return true;
    }
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // Connecting a datagram socket sends nothing; it only chooses a way.
    let own = UdpSocket::bind((any, 0))
        .and_then(|socket| socket.connect(address).and_then(|()| socket.local_addr()));
    own.is_ok_and(|own| own.ip() == address.ip())
}

/// The inode of the socket that listens there.
fn inode(table: &str, address: SocketAddr) -> Option<&str> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, _, state) = (fields.next()?, fields.next()?, fields.next()?);
        let (ip, port) = local.split_once(':')?;
        let is_it = state == LISTENING
            && u16::from_str_radix(port, 16).ok()? == address.port()
            && is_covered(parse(ip)?, address.ip());
        is_it.then(|| fields.nth(5)).flatten()
    })
}

fn is_covered(listening: IpAddr, wanted: IpAddr) -> bool {
    let listening = listening.to_canonical();
    listening.is_unspecified() || listening == wanted.to_canonical()
}

/// An address as the kernel prints it: words of 32 bits in the machine's own order.
fn parse(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = hex.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for (at, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?);
            }
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

fn holder(socket: &str) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find(|pid| {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        files
            .filter_map(Result::ok)
            .any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == socket))
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn this_process_is_found_by_its_port_and_nobody_by_a_free_one() {
        for any in ["127.0.0.1:0", "0.0.0.0:0"] {
            let listener = TcpListener::bind(any).unwrap();
            let port = listener.local_addr().unwrap().port();
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            assert_eq!(process(address), Some(std::process::id()), "{any}");
            drop(listener);
            assert_eq!(process(address), None, "{any}");
        }
    }

    #[test]
    fn addresses_are_read_as_the_kernel_prints_them() {
        let loopback = u32::from_ne_bytes([127, 0, 0, 1]);
        assert_eq!(parse(&format!("{loopback:08X}")), Some(Ipv4Addr::LOCALHOST.into()));
        let mapped = format!("0000000000000000{:08X}{loopback:08X}", u32::from_ne_bytes([0, 0, 0xff, 0xff]));
        assert!(is_covered(parse(&mapped).unwrap(), Ipv4Addr::LOCALHOST.into()));
        assert!(is_covered(parse(&"0".repeat(32)).unwrap(), Ipv4Addr::LOCALHOST.into()));
        assert_eq!(parse("7F"), None);
    }
}

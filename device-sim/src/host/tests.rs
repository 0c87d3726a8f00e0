//! Any program that listens is a broker here.

use super::*;
use crate::scenario::broker::Program;

/// Listens on the port it is given, and says on each connection which process it is.
const LISTENER: &str = "import os, socket, sys\n\
                        s = socket.socket()\n\
                        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
                        s.bind(('127.0.0.1', int(sys.argv[1])))\n\
                        s.listen()\n\
                        while True: s.accept()[0].close()\n";

fn spec(command: &[&str]) -> BrokerSpec {
    let command = command.iter().map(|&word| word.to_owned()).collect();
    let files = vec![("listener.py".to_owned(), LISTENER.to_owned())];
    BrokerSpec { files, ..BrokerSpec::of(Program::Command(command)) }
}

fn pid(host: &Host) -> Option<u32> {
    host.child.as_ref().map(Child::id)
}

async fn listens(host: &Host) -> bool {
    TcpStream::connect(host.address()).await.is_ok()
}

#[tokio::test]
async fn a_broker_is_killed_started_again_on_its_port_and_gone_in_the_end() {
    let mut host = match Host::start(&spec(&["python3", "{dir}/listener.py", "{port}"]), false).await {
        Ok(host) => host,
        Err(HostError::Start { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: there is no python3 to listen");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let (dir, address, first) = (host.dir.clone(), host.address(), pid(&host));
    assert!(dir.join("listener.py").is_file() && listens(&host).await);
    host.step(BrokerStep::Kill).await.unwrap();
    assert!(!listens(&host).await && pid(&host).is_none());
    host.step(BrokerStep::Start).await.unwrap();
    host.wait_until_it_listens().await.unwrap();
    assert_eq!(host.address(), address);
    assert_ne!(pid(&host), first);
    host.step(BrokerStep::Pause).await.unwrap();
    host.step(BrokerStep::Resume).await.unwrap();
    host.step(BrokerStep::Terminate).await.unwrap();
    assert!(!listens(&host).await);
    drop(host);
    assert!(!dir.exists());
}

#[tokio::test]
async fn what_is_not_there_or_does_not_listen_is_said() {
    let missing =
        Host::start(&spec(&["/nonexistent/broker"]), false).await.err().map(|error| error.to_string());
    assert!(missing.is_some_and(|said| said.starts_with("cannot start `/nonexistent/broker`: ")));
    let silent = Host::start(&spec(&["sh", "-c", "echo no licence; exit 1"]), false).await.err();
    let silent = silent.map(|error| error.to_string()).unwrap_or_default();
    assert!(silent.ends_with("it said: no licence"), "{silent}");
}

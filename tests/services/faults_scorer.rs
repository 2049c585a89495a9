//! A scoring server that is killed and started again while workers rate with it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::net::TcpSocket;

use crate::fault_run::FaultRun;
use crate::process::Process;
use crate::run_size::RunSize;

/// Message of a worker that cannot reach its scoring server.
const AWAY: &str = "the scoring server is unavailable";

#[test]
fn a_scoring_server_that_is_killed_and_restarted_loses_no_reference() {
    let size = RunSize::from_environment().divided_by(12);
    let title = "kill -9 of the scoring server of `scorer = \"http\"`, its return";
    FaultRun::with_size("scorer", title, size, |mut run| {
        let place = ReservedPort::new();
        let mut server = place.serve();
        let url = format!("engine.dog_iqa.http.url=http://127.0.0.1:{}/v1", place.port);
        for setting in [
            "engine.name=dog-iqa",
            "engine.dog_iqa.segmenter=classic",
            "engine.dog_iqa.scorer=http",
            "engine.dog_iqa.http.model=digest",
            &url,
        ] {
            run.set(setting);
        }
        run.start(2);
        let kills = run.size.pick(1, 5);
        for kill in 1..=kills {
            run.read_until_answered(kill, kills + 1);
            server.kill();
            // The others may be rated already.
            run.publish_more(run.size.references / 5);
            run.read_for(Duration::from_secs(run.size.pick(3, 15)));
            server = place.serve();
            run.faults += 1;
        }
        run.read_until_answered(1, 1);
        let held = |worker: &Process| worker.log().contains(AWAY);
        assert!(run.workers.iter().any(held), "no worker noticed that the server was away");
        run.finish();
    });
}

/// A port of this machine that no other program is given while the server is away. Connections to
/// it are refused then.
struct ReservedPort {
    port: u16,
    /// Bound, but not listening.
    _socket: TcpSocket,
}

impl ReservedPort {
    fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // The server binds the same port.
        socket.set_reuseaddr(true).unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self { port: socket.local_addr().unwrap().port(), _socket: socket }
    }

    /// Starts the server in a process of its own.
    fn serve(&self) -> Process {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services/scoring_server.py");
        let mut command = Command::new("python3");
        Process::spawn("the scoring server", command.arg(script).arg(self.port.to_string()))
    }
}

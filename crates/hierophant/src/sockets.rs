//! Listening sockets that the service manager holds, so that a restart of this program refuses nobody.
//!
//! While the program is down its clients' connections wait in the socket's queue, and the next start accepts them. The
//! protocol is systemd's socket activation: `LISTEN_FDS`, and `LISTEN_FDNAMES` if the sockets have names.

use std::{io, net::TcpListener};

use listenfd::ListenFd;

/// The socket of the SP1 SDK's gRPC, by name and by order.
pub const GRPC: Socket = Socket { name: "grpc", place: 0 };

/// The socket of artifacts, status and workers.
pub const HTTP: Socket = Socket { name: "http", place: 1 };

/// How a socket is told from the other one.
#[derive(Debug, Clone, Copy)]
pub struct Socket {
    name: &'static str,
    place: usize,
}

/// The sockets that this program was started with.
pub struct Inherited {
    sockets: ListenFd,
    names: Vec<String>,
}

impl Inherited {
    /// Takes them out of the environment. For the beginning of the program, while it has one thread.
    #[expect(clippy::disallowed_methods, reason = "systemd's protocol, not a setting")]
    pub fn from_environment() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let sockets = ListenFd::from_env();
        Self { sockets, names: names.split(':').map(str::to_owned).collect() }
    }

    /// No sockets: the program binds its own.
    pub fn none() -> Self {
        Self { sockets: ListenFd::empty(), names: Vec::new() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.sockets.len()
    }

    /// The socket of this name; where none has a name of ours, the one at this place.
    ///
    /// # Errors
    /// When what is there is not a listening TCP socket.
    pub fn take(&mut self, socket: Socket) -> io::Result<Option<TcpListener>> {
        let place = place(&self.names, socket);
        let Some(listener) = place.map(|place| self.sockets.take_tcp_listener(place)).transpose()?.flatten() else {
            return Ok(None);
        };
        listener.set_nonblocking(true)?;
        Ok(Some(listener))
    }
}

fn place(names: &[String], socket: Socket) -> Option<usize> {
    let are_named = names.iter().any(|name| [GRPC.name, HTTP.name].contains(&name.as_str()));
    if are_named { names.iter().position(|name| name == socket.name) } else { Some(socket.place) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_before_order_and_order_counts_where_no_name_is_ours() {
        let place = |names: &str, socket| {
            let names: Vec<_> = names.split(':').map(str::to_owned).collect();
            place(&names, socket)
        };
        assert_eq!((place("http:grpc", GRPC), place("http:grpc", HTTP)), (Some(1), Some(0)));
        assert_eq!((place("", GRPC), place("", HTTP)), (Some(0), Some(1)));
        let unit = "hierophant.socket:hierophant.socket";
        assert_eq!((place(unit, GRPC), place(unit, HTTP)), (Some(0), Some(1)));
        assert_eq!((place("other:http", GRPC), place("other:http", HTTP)), (None, Some(1)));
    }

    #[test]
    fn without_sockets_there_is_none_to_take() {
        let mut inherited = Inherited::none();
        assert_eq!(inherited.count(), 0);
        assert!(inherited.take(GRPC).unwrap().is_none() && inherited.take(HTTP).unwrap().is_none());
    }
}

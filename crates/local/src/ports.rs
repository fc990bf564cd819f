//! Ports on 127.0.0.1.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
};

use crate::Error;

/// A port nobody listens on now. It may be taken before it is used, so whoever uses it tries again with another.
pub fn free() -> Result<u16, Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::NoPort)?;
    Ok(listener.local_addr().map_err(Error::NoPort)?.port())
}

pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Somebody accepts connections there.
pub fn answers(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The port of the run before when it is still free, so that addresses people noted down stay right.
pub(crate) fn remembered(file: &Path) -> Result<u16, Error> {
    let noted: Option<u16> = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
    noted.filter(|port| is_free(*port)).map_or_else(free, Ok)
}

pub(crate) fn remember(file: &Path, port: u16) -> Result<(), Error> {
    fs::write(file, format!("{port}\n")).map_err(Error::io("write", file))
}

/// Whether a server's last words say that its port was taken.
pub(crate) fn taken(words: &str) -> bool {
    let in_use = io::Error::from(io::ErrorKind::AddrInUse).to_string();
    [in_use.as_str(), "Address already in use", "create any TCP/IP sockets"].iter().any(|said| words.contains(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remembered_port_is_kept_until_taken() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("port");
        let port = free().unwrap();
        remember(&file, port).unwrap();
        assert_eq!(remembered(&file).unwrap(), port);
        let _holder = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(answers(port));
        assert_ne!(remembered(&file).unwrap(), port);
    }
}

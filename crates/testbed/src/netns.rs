//! Several hosts on one machine: network namespaces on a switch, with links that go down and packets that are dropped.
//!
//! The switch is a namespace too, and the thread that makes it is in there: whatever the thread connects to is reached
//! from there, and no interface of the machine's own is touched. Nothing has a name outside, and everything is gone
//! with its owner.

use std::{fs::File, net::Ipv4Addr};

use anyhow::Context as _;
use nix::sched::{CloneFlags, setns};

use crate::holder::{Holder, run};

/// Where the thread of the test is.
const CLIENT: &str = "10.77.0.254/24";

/// The table of the packet filter that tests write into.
const TABLE: &str = "faults";

/// A switch with hosts. Dropped, all of it is gone, and the thread is back where it was.
#[derive(Debug)]
pub struct Lan {
    hosts: Vec<Host>,
    home: File,
    /// What `Drop` leaves last.
    switch: Holder,
}

impl Lan {
    /// A coordinator's host and so many workers' hosts. The calling thread moves onto their network, until this is dropped.
    ///
    /// # Errors
    /// When this machine does not let it be.
    pub fn new(workers: u8) -> anyhow::Result<Self> {
        let home = File::open("/proc/thread-self/ns/net")?;
        let script = format!(
            "ip link set lo up; ip link add switch type bridge; ip addr add {CLIENT} dev switch; ip link set switch up"
        );
        let switch = Holder::unshare("-n", &script, &[])?;
        let mut lan = Self { hosts: Vec::new(), home, switch };
        enter(&File::open(format!("/proc/{}/ns/net", lan.switch.pid()))?)?;
        for number in 0..=workers {
            let address = if number == 0 { 1 } else { 9 + number };
            lan.hosts.push(Host::new(&format!("port{number}"), Ipv4Addr::new(10, 77, 0, address))?);
        }
        Ok(lan)
    }

    /// Where the coordinator runs.
    pub fn coordinator(&mut self) -> &mut Host {
        &mut self.hosts[0]
    }

    /// Where a worker runs.
    pub fn worker(&mut self, number: usize) -> &mut Host {
        &mut self.hosts[1 + number]
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        // A thread that cannot go home can connect to nothing, which its next test says.
        let _ = enter(&self.home);
    }
}

fn enter(namespace: &File) -> anyhow::Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWNET).context("the network of the test cannot be entered")
}

/// A host of the network.
#[derive(Debug)]
pub struct Host {
    holder: Holder,
    /// The end of its cable at the switch.
    port: String,
    address: Ipv4Addr,
}

/// Which way packets go, as the host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the host.
    In,
    /// From the host.
    Out,
}

impl Way {
    const fn hook(self) -> &'static str {
        match self {
            Self::In => "input",
            Self::Out => "output",
        }
    }
}

impl Host {
    fn new(port: &str, address: Ipv4Addr) -> anyhow::Result<Self> {
        let host = Self { holder: Holder::unshare("-n", "ip link set lo up", &[])?, port: port.to_owned(), address };
        let namespace = host.namespace();
        run("ip", &["link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", &namespace])?;
        run("ip", &["link", "set", port, "master", "switch", "up"])?;
        host.run("ip", &["addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        host.run("ip", &["link", "set", "eth0", "up"])?;
        Ok(host)
    }

    /// Its address.
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// What starts a program on this host.
    pub fn launcher(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net={}", self.namespace())]
    }

    /// Pulls the cable: nobody is told that a connection is over.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn unplug(&self) -> anyhow::Result<()> {
        run("ip", &["link", "set", &self.port, "down"])
    }

    /// Puts the cable back.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn plug(&self) -> anyhow::Result<()> {
        run("ip", &["link", "set", &self.port, "up"])
    }

    /// From now on drops so many of a hundred packets that go this way, one at least.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn lose(&self, percent: u8, way: Way) -> anyhow::Result<()> {
        let (hook, most) = (way.hook(), percent.saturating_sub(1));
        self.run("nft", &["add", "table", "inet", TABLE])?;
        self.run("nft", &[&format!("add chain inet {TABLE} {hook} {{ type filter hook {hook} priority 0; }}")])?;
        self.run("nft", &[&format!("add rule inet {TABLE} {hook} numgen random mod 100 <= {most} drop")])
    }

    /// Drops nothing any more.
    ///
    /// # Errors
    /// When nothing was dropped.
    pub fn lose_nothing(&self) -> anyhow::Result<()> {
        self.run("nft", &["delete", "table", "inet", TABLE])
    }

    /// Resets every connection of this host.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn reset_connections(&self) -> anyhow::Result<()> {
        self.run("ss", &["-t", "-K", "state", "established"])
    }

    /// Gives it another address in place of its own.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn readdress(&mut self, last: u8) -> anyhow::Result<()> {
        let [a, b, c, _] = self.address.octets();
        let address = Ipv4Addr::new(a, b, c, last);
        self.run("ip", &["addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        self.run("ip", &["addr", "del", &format!("{}/24", self.address), "dev", "eth0"])?;
        // Removing a first address takes those away that came after it, where the machine is set up so.
        self.run("ip", &["addr", "replace", &format!("{address}/24"), "dev", "eth0"])?;
        self.address = address;
        Ok(())
    }

    fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.pid())
    }

    fn run(&self, tool: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let net = format!("--net={}", self.namespace());
        run("nsenter", &[&[net.as_str(), tool], arguments].concat())
    }
}

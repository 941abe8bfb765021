//! Socket options by level. Levels that are protocols have the numbers of [`super::protocol`].

/// SOL_SOCKET.
pub const SOL_SOCKET: u32 = 1;

/// Options of [`SOL_SOCKET`] (`socket(7)`).
#[allow(missing_docs, reason = "each is the option of its name")]
pub mod socket {
    pub const DEBUG: u32 = 1;
    pub const REUSEADDR: u32 = 2;
    pub const TYPE: u32 = 3;
    pub const ERROR: u32 = 4;
    pub const DONTROUTE: u32 = 5;
    pub const BROADCAST: u32 = 6;
    pub const SNDBUF: u32 = 7;
    pub const RCVBUF: u32 = 8;
    pub const KEEPALIVE: u32 = 9;
    pub const OOBINLINE: u32 = 10;
    pub const NO_CHECK: u32 = 11;
    pub const PRIORITY: u32 = 12;
    pub const LINGER: u32 = 13;
    pub const BSDCOMPAT: u32 = 14;
    pub const REUSEPORT: u32 = 15;
    pub const PASSCRED: u32 = 16;
    pub const PEERCRED: u32 = 17;
    pub const RCVLOWAT: u32 = 18;
    pub const SNDLOWAT: u32 = 19;
    pub const RCVTIMEO: u32 = 20;
    pub const SNDTIMEO: u32 = 21;
    pub const BINDTODEVICE: u32 = 25;
    pub const ATTACH_FILTER: u32 = 26;
    pub const DETACH_FILTER: u32 = 27;
    pub const PEERNAME: u32 = 28;
    pub const TIMESTAMP: u32 = 29;
    pub const ACCEPTCONN: u32 = 30;
    pub const PEERSEC: u32 = 31;
    pub const SNDBUFFORCE: u32 = 32;
    pub const RCVBUFFORCE: u32 = 33;
    pub const PASSSEC: u32 = 34;
    pub const TIMESTAMPNS: u32 = 35;
    pub const MARK: u32 = 36;
    pub const TIMESTAMPING: u32 = 37;
    pub const PROTOCOL: u32 = 38;
    pub const DOMAIN: u32 = 39;
    pub const RXQ_OVFL: u32 = 40;
    pub const PEEK_OFF: u32 = 42;
    pub const LOCK_FILTER: u32 = 44;
    pub const BUSY_POLL: u32 = 46;
    pub const MAX_PACING_RATE: u32 = 47;
    pub const INCOMING_CPU: u32 = 49;
    pub const ATTACH_BPF: u32 = 50;
    pub const ATTACH_REUSEPORT_CBPF: u32 = 51;
    pub const ATTACH_REUSEPORT_EBPF: u32 = 52;
    pub const MEMINFO: u32 = 55;
    pub const INCOMING_NAPI_ID: u32 = 56;
    pub const COOKIE: u32 = 57;
    pub const PEERGROUPS: u32 = 59;
    pub const ZEROCOPY: u32 = 60;
    pub const TXTIME: u32 = 61;
    pub const BINDTOIFINDEX: u32 = 62;
    pub const TIMESTAMP_NEW: u32 = 63;
    pub const TIMESTAMPNS_NEW: u32 = 64;
    pub const TIMESTAMPING_NEW: u32 = 65;
    pub const RCVTIMEO_NEW: u32 = 66;
    pub const SNDTIMEO_NEW: u32 = 67;
    pub const PREFER_BUSY_POLL: u32 = 69;
    pub const BUSY_POLL_BUDGET: u32 = 70;
    pub const NETNS_COOKIE: u32 = 71;
    pub const PASSPIDFD: u32 = 76;
    pub const PEERPIDFD: u32 = 77;
}

/// Options of IPPROTO_IP (`ip(7)`).
#[allow(missing_docs, reason = "each is the option of its name")]
pub mod ip {
    pub const TOS: u32 = 1;
    pub const TTL: u32 = 2;
    pub const HDRINCL: u32 = 3;
    pub const OPTIONS: u32 = 4;
    pub const ROUTER_ALERT: u32 = 5;
    pub const RECVOPTS: u32 = 6;
    pub const RETOPTS: u32 = 7;
    pub const PKTINFO: u32 = 8;
    pub const PKTOPTIONS: u32 = 9;
    pub const MTU_DISCOVER: u32 = 10;
    pub const RECVERR: u32 = 11;
    pub const RECVTTL: u32 = 12;
    pub const RECVTOS: u32 = 13;
    pub const MTU: u32 = 14;
    pub const FREEBIND: u32 = 15;
    pub const TRANSPARENT: u32 = 19;
    pub const RECVORIGDSTADDR: u32 = 20;
    pub const MINTTL: u32 = 21;
    pub const CHECKSUM: u32 = 23;
    pub const BIND_ADDRESS_NO_PORT: u32 = 24;
    pub const RECVFRAGSIZE: u32 = 25;
    pub const MULTICAST_IF: u32 = 32;
    pub const MULTICAST_TTL: u32 = 33;
    pub const MULTICAST_LOOP: u32 = 34;
    pub const ADD_MEMBERSHIP: u32 = 35;
    pub const DROP_MEMBERSHIP: u32 = 36;
    pub const UNBLOCK_SOURCE: u32 = 37;
    pub const BLOCK_SOURCE: u32 = 38;
    pub const ADD_SOURCE_MEMBERSHIP: u32 = 39;
    pub const DROP_SOURCE_MEMBERSHIP: u32 = 40;
    pub const MSFILTER: u32 = 41;
    pub const MCAST_JOIN_GROUP: u32 = 42;
    pub const MCAST_LEAVE_GROUP: u32 = 45;
    pub const MCAST_JOIN_SOURCE_GROUP: u32 = 46;
    pub const MCAST_LEAVE_SOURCE_GROUP: u32 = 47;
    pub const MULTICAST_ALL: u32 = 49;
    pub const UNICAST_IF: u32 = 50;
    pub const LOCAL_PORT_RANGE: u32 = 51;
}

/// Options of IPPROTO_IPV6 (`ipv6(7)`).
#[allow(missing_docs, reason = "each is the option of its name")]
pub mod ipv6 {
    pub const ADDRFORM: u32 = 1;
    pub const UNICAST_HOPS: u32 = 16;
    pub const MULTICAST_IF: u32 = 17;
    pub const MULTICAST_HOPS: u32 = 18;
    pub const MULTICAST_LOOP: u32 = 19;
    pub const JOIN_GROUP: u32 = 20;
    pub const LEAVE_GROUP: u32 = 21;
    pub const MTU_DISCOVER: u32 = 23;
    pub const MTU: u32 = 24;
    pub const RECVERR: u32 = 25;
    pub const V6ONLY: u32 = 26;
    pub const MULTICAST_ALL: u32 = 29;
    pub const FLOWLABEL_MGR: u32 = 32;
    pub const FLOWINFO_SEND: u32 = 33;
    pub const MCAST_JOIN_GROUP: u32 = 42;
    pub const MCAST_LEAVE_GROUP: u32 = 45;
    pub const RECVPKTINFO: u32 = 49;
    pub const PKTINFO: u32 = 50;
    pub const RECVHOPLIMIT: u32 = 51;
    pub const HOPLIMIT: u32 = 52;
    pub const RECVHOPOPTS: u32 = 53;
    pub const HOPOPTS: u32 = 54;
    pub const RECVRTHDR: u32 = 56;
    pub const RTHDR: u32 = 57;
    pub const RECVDSTOPTS: u32 = 58;
    pub const DSTOPTS: u32 = 59;
    pub const RECVPATHMTU: u32 = 60;
    pub const PATHMTU: u32 = 61;
    pub const DONTFRAG: u32 = 62;
    pub const RECVTCLASS: u32 = 66;
    pub const TCLASS: u32 = 67;
    pub const AUTOFLOWLABEL: u32 = 70;
    pub const ADDR_PREFERENCES: u32 = 72;
    pub const MINHOPCOUNT: u32 = 73;
    pub const RECVORIGDSTADDR: u32 = 74;
    pub const TRANSPARENT: u32 = 75;
    pub const UNICAST_IF: u32 = 76;
    pub const RECVFRAGSIZE: u32 = 77;
    pub const FREEBIND: u32 = 78;
}

/// Options of IPPROTO_TCP (`tcp(7)`).
#[allow(missing_docs, reason = "each is the option of its name")]
pub mod tcp {
    pub const NODELAY: u32 = 1;
    pub const MAXSEG: u32 = 2;
    pub const CORK: u32 = 3;
    pub const KEEPIDLE: u32 = 4;
    pub const KEEPINTVL: u32 = 5;
    pub const KEEPCNT: u32 = 6;
    pub const SYNCNT: u32 = 7;
    pub const LINGER2: u32 = 8;
    pub const DEFER_ACCEPT: u32 = 9;
    pub const WINDOW_CLAMP: u32 = 10;
    pub const INFO: u32 = 11;
    pub const QUICKACK: u32 = 12;
    pub const CONGESTION: u32 = 13;
    pub const MD5SIG: u32 = 14;
    pub const THIN_LINEAR_TIMEOUTS: u32 = 16;
    pub const THIN_DUPACK: u32 = 17;
    pub const USER_TIMEOUT: u32 = 18;
    pub const REPAIR: u32 = 19;
    pub const FASTOPEN: u32 = 23;
    pub const TIMESTAMP: u32 = 24;
    pub const NOTSENT_LOWAT: u32 = 25;
    pub const CC_INFO: u32 = 26;
    pub const SAVE_SYN: u32 = 27;
    pub const SAVED_SYN: u32 = 28;
    pub const FASTOPEN_CONNECT: u32 = 30;
    pub const ULP: u32 = 31;
    pub const FASTOPEN_KEY: u32 = 33;
    pub const FASTOPEN_NO_COOKIE: u32 = 34;
    pub const ZEROCOPY_RECEIVE: u32 = 35;
    pub const INQ: u32 = 36;
    pub const TX_DELAY: u32 = 37;
}

/// Options of IPPROTO_UDP (`udp(7)`).
#[allow(missing_docs, reason = "each is the option of its name")]
pub mod udp {
    pub const CORK: u32 = 1;
    pub const ENCAP: u32 = 100;
    pub const NO_CHECK6_TX: u32 = 101;
    pub const NO_CHECK6_RX: u32 = 102;
    pub const SEGMENT: u32 = 103;
    pub const GRO: u32 = 104;
}

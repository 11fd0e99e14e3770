//! DHCPv4 options as people write them, Neutron's `extra_dhcp_opts`: a name or number and a text, and what they are in
//! bytes (RFC 2132, RFC 3442, RFC 3397, RFC 5859).
//!
//! Names are those of dnsmasq, which Neutron's users know. An option whose type is not known here is taken as text;
//! as the bytes it stands for, if it is written in hexadecimal with colons.

mod v6;

use crate::slice::DhcpOption;
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// What the value of an option is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Address,
    Addresses,
    /// 0 or 1.
    Flag,
    Byte,
    Short,
    /// Signed numbers are written as such.
    Long,
    Text,
    /// `PREFIX,GATEWAY` pairs.
    Routes,
    /// Domain names of a search list, uncompressed.
    Domains,
}

const KNOWN: &[(u8, &str, Kind)] = &[
    (1, "netmask", Kind::Address),
    (2, "time-offset", Kind::Long),
    (3, "router", Kind::Addresses),
    (6, "dns-server", Kind::Addresses),
    (7, "log-server", Kind::Addresses),
    (9, "lpr-server", Kind::Addresses),
    (12, "hostname", Kind::Text),
    (13, "boot-file-size", Kind::Short),
    (15, "domain-name", Kind::Text),
    (16, "swap-server", Kind::Address),
    (17, "root-path", Kind::Text),
    (18, "extension-path", Kind::Text),
    (19, "ip-forward-enable", Kind::Flag),
    (23, "default-ttl", Kind::Byte),
    (26, "mtu", Kind::Short),
    (27, "all-subnets-local", Kind::Flag),
    (28, "broadcast", Kind::Address),
    (31, "router-discovery", Kind::Flag),
    (32, "router-solicitation", Kind::Address),
    (35, "arp-timeout", Kind::Long),
    (37, "tcp-ttl", Kind::Byte),
    (38, "tcp-keepalive", Kind::Long),
    (40, "nis-domain", Kind::Text),
    (41, "nis-server", Kind::Addresses),
    (42, "ntp-server", Kind::Addresses),
    (44, "netbios-ns", Kind::Addresses),
    (46, "netbios-nodetype", Kind::Byte),
    (51, "lease-time", Kind::Long),
    (58, "T1", Kind::Long),
    (59, "T2", Kind::Long),
    (60, "vendor-class", Kind::Text),
    (66, "tftp-server", Kind::Text),
    (67, "bootfile-name", Kind::Text),
    (69, "smtp-server", Kind::Addresses),
    (70, "pop3-server", Kind::Addresses),
    (72, "www-server", Kind::Addresses),
    (119, "domain-search", Kind::Domains),
    (121, "classless-static-route", Kind::Routes),
    (150, "tftp-server-address", Kind::Addresses),
    (249, "classless-static-route-ms", Kind::Routes),
    (252, "wpad", Kind::Text),
];

/// Other names in use for the same.
const ALIASES: &[(&str, u8)] = &[
    ("dns-servers", 6),
    ("routers", 3),
    ("server-ip-address", 150),
    ("tftp-server-name", 66),
    ("bootfile", 67),
];

/// The server's own, by number: they are the exchange itself, and no port has a say in them.
const EXCHANGE: [u8; 11] = [0, 50, 52, 53, 54, 55, 56, 57, 61, 82, 255];
/// RFC 2132 §2.
const VALUE_LEN_MAX: usize = 255;

/// An option that cannot be told to a VM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoOption {
    #[error("'{0}' is no DHCP option; give a name such as 'bootfile-name', or a number from 1 to 254")]
    Unknown(String),
    #[error("'{0}' is no DHCPv6 option; give a name such as 'bootfile-url', or a number from 1 to 65535")]
    UnknownV6(String),
    #[error("option {0} belongs to the exchange itself and cannot be set")]
    Exchange(u16),
    #[error("'{value}' is no value of option '{name}': it must be {what}")]
    Value { name: String, value: String, what: &'static str },
}

impl DhcpOption {
    /// The option's number, and its value as it is sent.
    ///
    /// # Errors
    /// Nobody knows the name, or the value is not one of the option's type.
    pub fn encode(&self) -> Result<(u8, Vec<u8>), NoOption> {
        let name = self.name.strip_prefix("option:").unwrap_or(&self.name);
        let code = code(name).ok_or_else(|| NoOption::Unknown(self.name.clone()))?;
        if EXCHANGE.contains(&code) {
            return Err(NoOption::Exchange(code.into()));
        }
        let kind = KNOWN.iter().find(|(known, ..)| *known == code).map(|(.., kind)| *kind);
        let wrong = |what| NoOption::Value { name: self.name.clone(), value: self.value.clone(), what };
        let bytes = match kind {
            Some(kind) => value(kind, self.value.trim()).map_err(wrong)?,
            None => hexadecimal(&self.value).unwrap_or_else(|| self.value.clone().into_bytes()),
        };
        if (1..=VALUE_LEN_MAX).contains(&bytes.len()) {
            Ok((code, bytes))
        } else {
            Err(wrong("1 to 255 bytes"))
        }
    }
}

fn code(name: &str) -> Option<u8> {
    if let Ok(number) = name.parse::<u8>() {
        return (1..=254).contains(&number).then_some(number);
    }
    let known = KNOWN.iter().map(|(code, known, _)| (*known, *code));
    known
        .chain(ALIASES.iter().copied())
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, code)| code)
}

fn value(kind: Kind, text: &str) -> Result<Vec<u8>, &'static str> {
    match kind {
        Kind::Address => Ok(address(text)?.octets().to_vec()),
        Kind::Addresses => {
            let parts = text.split(',').map(|part| address(part.trim()).map(|address| address.octets()));
            Ok(parts.collect::<Result<Vec<_>, _>>()?.concat())
        }
        Kind::Flag => match text {
            "0" | "false" => Ok(vec![0]),
            "1" | "true" => Ok(vec![1]),
            _ => Err("0 or 1"),
        },
        Kind::Byte => text.parse::<u8>().map(|number| vec![number]).map_err(|_| "a number from 0 to 255"),
        Kind::Short => text
            .parse::<u16>()
            .map(|number| number.to_be_bytes().to_vec())
            .map_err(|_| "a number from 0 to 65535"),
        Kind::Long => long(text).map(|bytes| bytes.to_vec()).ok_or("a number of 32 bits"),
        Kind::Text => Ok(text.as_bytes().to_vec()),
        Kind::Routes => routes(text),
        Kind::Domains => domains(text),
    }
}

fn address(text: &str) -> Result<Ipv4Addr, &'static str> {
    text.parse().map_err(|_| "IPv4 addresses")
}

fn long(text: &str) -> Option<[u8; 4]> {
    let unsigned = text.parse::<u32>().map(u32::to_be_bytes);
    unsigned.or_else(|_| text.parse::<i32>().map(i32::to_be_bytes)).ok()
}

/// As RFC 3442 has them.
fn routes(text: &str) -> Result<Vec<u8>, &'static str> {
    const WHAT: &str = "pairs of prefix and gateway, such as 10.0.0.0/8,192.0.2.1";
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let mut bytes = Vec::new();
    for pair in parts.chunks(2) {
        let [destination, gateway] = pair else { return Err(WHAT) };
        let destination = destination.parse().map_err(|_| WHAT)?;
        push_route(&mut bytes, destination, gateway.parse().map_err(|_| WHAT)?);
    }
    Ok(bytes)
}

/// Appends a classless static route (RFC 3442): as much of the destination as its prefix covers, then the gateway;
/// 0.0.0.0 for one that is on the link.
pub fn push_route(bytes: &mut Vec<u8>, destination: Ipv4Net, gateway: Ipv4Addr) {
    let len = destination.prefix_len();
    bytes.push(len);
    bytes.extend(destination.network().octets().iter().take(usize::from(len.div_ceil(8))));
    bytes.extend(gateway.octets());
}

/// RFC 3397, without compression.
fn domains(text: &str) -> Result<Vec<u8>, &'static str> {
    const WHAT: &str = "domain names, such as example.org,example.net";
    let mut bytes = Vec::new();
    for domain in text.split(',') {
        for label in domain.trim().trim_end_matches('.').split('.') {
            let len = u8::try_from(label.len()).ok().filter(|len| (1..=63).contains(len)).ok_or(WHAT)?;
            bytes.push(len);
            bytes.extend(label.as_bytes());
        }
        bytes.push(0);
    }
    Ok(bytes)
}

/// `01:a0:ff`.
fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    if !text.contains(':') {
        return None;
    }
    text.split(':').map(|byte| (byte.len() == 2).then(|| u8::from_str_radix(byte, 16).ok())?).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(name: &str, value: &str) -> Result<(u8, Vec<u8>), String> {
        let option = DhcpOption { name: name.to_owned(), value: value.to_owned() };
        option.encode().map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_encoded_by_their_type() {
        let table: &[(&str, &str, u8, &[u8])] = &[
            ("bootfile-name", "pxelinux.0", 67, b"pxelinux.0"),
            ("option:mtu", "1400", 26, &[5, 120]),
            ("26", "1400", 26, &[5, 120]),
            ("dns-server", "8.8.8.8, 1.1.1.1", 6, &[8, 8, 8, 8, 1, 1, 1, 1]),
            ("server-ip-address", "10.0.0.1", 150, &[10, 0, 0, 1]),
            ("time-offset", "-3600", 2, &[0xff, 0xff, 0xf1, 0xf0]),
            ("ip-forward-enable", "1", 19, &[1]),
            ("default-ttl", "64", 23, &[64]),
            ("domain-search", "a.org,bc", 119, &[1, b'a', 3, b'o', b'r', b'g', 0, 2, b'b', b'c', 0]),
            ("classless-static-route", "10.0.0.0/8,192.0.2.1", 121, &[8, 10, 192, 0, 2, 1]),
            (
                "121",
                "0.0.0.0/0,192.0.2.1,10.17.0.0/16,0.0.0.0",
                121,
                &[0, 192, 0, 2, 1, 16, 10, 17, 0, 0, 0, 0],
            ),
            ("208", "f1:00:74:7e", 208, &[0xf1, 0, 0x74, 0x7e]),
            ("209", "config", 209, b"config"),
        ];
        for (name, value, code, bytes) in table {
            assert_eq!(encode(name, value), Ok((*code, bytes.to_vec())), "{name}={value}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_refused_with_the_reason() {
        let table = [
            ("colour", "red", "'colour' is no DHCP option"),
            ("0", "1", "'0' is no DHCP option"),
            ("255", "1", "'255' is no DHCP option"),
            ("53", "1", "option 53 belongs to the exchange"),
            ("mtu", "big", "'big' is no value of option 'mtu': it must be a number from 0 to 65535"),
            ("router", "fe80::1", "must be IPv4 addresses"),
            ("121", "10.0.0.0/8", "must be pairs of prefix and gateway"),
            ("domain-search", "a..b", "must be domain names"),
            ("bootfile-name", "", "must be 1 to 255 bytes"),
        ];
        for (name, value, want) in table {
            let error = encode(name, value).expect_err(name);
            assert!(error.contains(want), "{name}={value}: {error}");
        }
        assert!(encode("67", &"x".repeat(256)).is_err());
    }

    /// Row 12 of the attacks (OSSA-2021-005): a value with lines and commas of another server's configuration.
    #[test]
    fn lesson_v12_a_dhcp_option_is_one_option_whatever_its_value_says() {
        for value in ["x\ndhcp-script=/bin/sh", "x,tag:a,option:router,10.0.0.66", "x\0\u{3}\u{4}", "x\r\n53"]
        {
            assert_eq!(encode("bootfile-name", value), Ok((67, value.as_bytes().to_vec())));
            assert!(encode("mtu", value).is_err() && encode("router", value).is_err(), "{value:?}");
        }
        for name in ["67\ndhcp-script", "tag:a,option:router", "option:option:mtu", "encap:175,67", " 67"] {
            assert!(encode(name, "x").is_err(), "{name:?}");
        }
    }

    #[test]
    fn every_name_is_there_once() {
        for (place, (code, name, _)) in KNOWN.iter().enumerate() {
            let later = KNOWN.iter().skip(place + 1);
            assert!(later.clone().all(|(other, known, _)| other != code && known != name), "{name}");
            assert!(!EXCHANGE.contains(code), "{name}");
        }
    }
}

//! DHCPv6 options as people write them: those of `extra_dhcp_opts` with `ip_version` 6 (RFC 8415, RFC 3646, RFC 5908,
//! RFC 5970). Names are dnsmasq's.

use super::{NoOption, domains, hexadecimal};
use crate::slice::DhcpOption;
use std::net::Ipv6Addr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Addresses,
    /// Unsigned, 32 bits.
    Long,
    Text,
    Domains,
    /// Addresses or names of time servers (RFC 5908).
    TimeServers,
    /// Texts, each with its length (RFC 5970 §3.2).
    Parameters,
}

const KNOWN: &[(u16, &str, Kind)] = &[
    (21, "sip-server-domain", Kind::Domains),
    (22, "sip-server", Kind::Addresses),
    (23, "dns-server", Kind::Addresses),
    (24, "domain-search", Kind::Domains),
    (27, "nis-server", Kind::Addresses),
    (28, "nis+-server", Kind::Addresses),
    (29, "nis-domain", Kind::Domains),
    (30, "nis+-domain", Kind::Domains),
    (31, "sntp-server", Kind::Addresses),
    (32, "information-refresh-time", Kind::Long),
    (56, "ntp-server", Kind::TimeServers),
    (59, "bootfile-url", Kind::Text),
    (60, "bootfile-param", Kind::Parameters),
];

/// The server's own, and those of clients and relays, by number: no port has a say in them.
const EXCHANGE: [u16; 22] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 18, 19, 20, 25, 26, 37, 38];
/// Several of them fit the least datagram of IPv6.
const VALUE_LEN_MAX: usize = 512;
const TIME_SERVER_UNICAST: u16 = 1;
const TIME_SERVER_MULTICAST: u16 = 2;
const TIME_SERVER_NAME: u16 = 3;

impl DhcpOption {
    /// The option's number in DHCPv6, and its value as it is sent.
    ///
    /// # Errors
    /// Nobody knows the name, or the value is not one of the option's type.
    pub fn encode_v6(&self) -> Result<(u16, Vec<u8>), NoOption> {
        let name = ["option6:", "option:"].iter().find_map(|prefix| self.name.strip_prefix(prefix));
        let code = code(name.unwrap_or(&self.name)).ok_or_else(|| NoOption::UnknownV6(self.name.clone()))?;
        if EXCHANGE.contains(&code) {
            return Err(NoOption::Exchange(code));
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
            Err(wrong("1 to 512 bytes"))
        }
    }
}

fn code(name: &str) -> Option<u16> {
    if let Ok(number) = name.parse::<u16>() {
        return (number != 0).then_some(number);
    }
    let known = KNOWN.iter().find(|(_, known, _)| known.eq_ignore_ascii_case(name));
    known.map(|(code, ..)| *code)
}

fn value(kind: Kind, text: &str) -> Result<Vec<u8>, &'static str> {
    let parts = || text.split(',').map(str::trim);
    match kind {
        Kind::Addresses => {
            let addresses = parts().map(|part| part.parse().map(|address: Ipv6Addr| address.octets()));
            Ok(addresses.collect::<Result<Vec<_>, _>>().map_err(|_| "IPv6 addresses")?.concat())
        }
        Kind::Long => {
            let number = text.parse::<u32>().map_err(|_| "a number from 0 to 4294967295")?;
            Ok(number.to_be_bytes().to_vec())
        }
        Kind::Text => Ok(text.as_bytes().to_vec()),
        Kind::Domains => domains(text),
        Kind::TimeServers => Ok(parts().map(time_server).collect::<Result<Vec<_>, _>>()?.concat()),
        Kind::Parameters => {
            let parameters = parts().map(|part| {
                let len = u16::try_from(part.len()).map_err(|_| "texts of at most 65535 bytes")?;
                Ok([&len.to_be_bytes(), part.as_bytes()].concat())
            });
            Ok(parameters.collect::<Result<Vec<_>, _>>()?.concat())
        }
    }
}

/// RFC 5908 §4.
fn time_server(text: &str) -> Result<Vec<u8>, &'static str> {
    let (code, value) = match text.parse::<Ipv6Addr>() {
        Ok(address) if address.is_multicast() => (TIME_SERVER_MULTICAST, address.octets().to_vec()),
        Ok(address) => (TIME_SERVER_UNICAST, address.octets().to_vec()),
        Err(_) => (TIME_SERVER_NAME, domains(text).map_err(|_| "IPv6 addresses or names of time servers")?),
    };
    let len = u16::try_from(value.len()).map_err(|_| "shorter names")?;
    Ok([&code.to_be_bytes(), &len.to_be_bytes(), value.as_slice()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(name: &str, value: &str) -> Result<(u16, Vec<u8>), String> {
        let option = DhcpOption { name: name.to_owned(), value: value.to_owned() };
        option.encode_v6().map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_encoded_by_their_type() {
        let one: &[u8] = &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let two: &[u8] = &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
        let table: &[(&str, &str, u16, Vec<u8>)] = &[
            ("dns-server", "2001:db8::1, 2001:db8::2", 23, [one, two].concat()),
            ("option6:dns-server", "2001:db8::1", 23, one.to_vec()),
            ("domain-search", "a.org", 24, vec![1, b'a', 3, b'o', b'r', b'g', 0]),
            ("information-refresh-time", "600", 32, vec![0, 0, 2, 88]),
            ("ntp-server", "2001:db8::1,a", 56, [&[0, 1, 0, 16], one, &[0, 3, 0, 3, 1, b'a', 0]].concat()),
            ("59", "http://[2001:db8::1]/x", 59, b"http://[2001:db8::1]/x".to_vec()),
            ("bootfile-param", "a=1,bc", 60, vec![0, 3, b'a', b'=', b'1', 0, 2, b'b', b'c']),
            ("4660", "01:ff", 4660, vec![1, 255]),
        ];
        for (name, value, code, bytes) in table {
            assert_eq!(encode(name, value), Ok((*code, bytes.clone())), "{name}={value}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_refused_with_the_reason() {
        let table = [
            ("mtu", "1400", "'mtu' is no DHCPv6 option"),
            ("0", "1", "'0' is no DHCPv6 option"),
            ("65536", "1", "'65536' is no DHCPv6 option"),
            ("3", "1", "option 3 belongs to the exchange"),
            ("dns-server", "8.8.8.8", "must be IPv6 addresses"),
            ("32", "-1", "must be a number from 0"),
            ("56", "a..b", "must be IPv6 addresses or names of time servers"),
            ("bootfile-url", "", "must be 1 to 512 bytes"),
        ];
        for (name, value, want) in table {
            let error = encode(name, value).expect_err(name);
            assert!(error.contains(want), "{name}={value}: {error}");
        }
    }
}

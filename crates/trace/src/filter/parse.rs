//! From text to a filter, by recursive descent.

use super::{Filter, Header, Relation, Side, Test, Value};
use crate::MacAddr;
use ipnet::{IpNet, Ipv4Net};
use packet::{ethernet, ipv4, ipv6};
use std::net::{IpAddr, Ipv4Addr};

/// Parentheses within one another, and operators in a row.
const DEPTH_MAX: usize = 64;
const TEXT_LEN_MAX: usize = 4096;

/// Text that is no filter, and where it stops to be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}, at column {column}:\n  {text}\n  {mark:>column$}", column = .at + 1, mark = "^")]
pub struct NotAFilter {
    pub text: String,
    /// Bytes before the place.
    pub at: usize,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token<'a> {
    text: &'a str,
    at: usize,
}

/// What a bare address or port means: as the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Host,
    Net,
    Port,
    PortRange,
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    next: usize,
    depth: usize,
    last: Option<(Side, Option<u8>, Kind)>,
}

type Parsed<T> = Result<T, NotAFilter>;

pub(super) fn parse(text: &str) -> Parsed<Filter> {
    let mut parser = Parser { text, tokens: Vec::new(), next: 0, depth: 0, last: None };
    if text.len() > TEXT_LEN_MAX {
        return Err(parser.error(0, format!("more than {TEXT_LEN_MAX} bytes")));
    }
    parser.tokens = tokens(text);
    if parser.tokens.is_empty() {
        return Ok(Filter::All);
    }
    let filter = parser.any_of()?;
    match parser.peek() {
        None => Ok(filter),
        Some(token) => Err(parser.unexpected(token, "'and', 'or' or the end")),
    }
}

/// Words, numbers and addresses; operators are tokens of their own.
fn tokens(text: &str) -> Vec<Token<'_>> {
    const OPERATORS: [&str; 17] =
        ["&&", "||", "!=", "==", "<=", ">=", "(", ")", "[", "]", "!", "=", "<", ">", "&", "|", "+"];
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let operator =
            OPERATORS.iter().find(|operator| rest.starts_with(**operator)).map(|found| found.len());
        let word = || {
            let ends = |c: char| c.is_whitespace() || "()[]!=<>&|+".contains(c);
            rest.find(ends).unwrap_or(rest.len())
        };
        let first = rest.chars().next().unwrap_or(' ');
        let len = if first.is_whitespace() { first.len_utf8() } else { operator.unwrap_or_else(word) };
        if !first.is_whitespace() {
            tokens.push(Token { text: rest.get(..len).unwrap_or_default(), at });
        }
        at += len;
    }
    tokens
}

fn and(a: Filter, b: Filter) -> Filter {
    Filter::And(Box::new(a), Box::new(b))
}

impl<'a> Parser<'a> {
    fn error(&self, at: usize, reason: String) -> NotAFilter {
        NotAFilter { text: self.text.replace(['\n', '\t'], " "), at, reason }
    }

    fn unexpected(&self, token: Token<'_>, wanted: &str) -> NotAFilter {
        self.error(token.at, format!("'{}' is not {wanted}", token.text))
    }

    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.next).copied()
    }

    fn take(&mut self, wanted: &str) -> Parsed<Token<'a>> {
        let token = self.peek().ok_or_else(|| self.error(self.text.len(), format!("{wanted} is missing")))?;
        self.next += 1;
        Ok(token)
    }

    /// Takes the next token if it is one of these.
    fn accept(&mut self, words: &[&str]) -> Option<&'a str> {
        let token = self.peek().filter(|token| words.contains(&token.text))?;
        self.next += 1;
        Some(token.text)
    }

    fn expect(&mut self, word: &str) -> Parsed<()> {
        let wanted = format!("'{word}'");
        let token = self.take(&wanted)?;
        if token.text == word { Ok(()) } else { Err(self.unexpected(token, &wanted)) }
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let at = self.peek().map_or(0, |token| token.at);
            return Err(self.error(at, "too many parentheses within one another".to_owned()));
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn any_of(&mut self) -> Parsed<Filter> {
        let mut filter = self.all_of()?;
        while self.accept(&["or", "||"]).is_some() {
            filter = Filter::Or(Box::new(filter), Box::new(self.all_of()?));
        }
        Ok(filter)
    }

    fn all_of(&mut self) -> Parsed<Filter> {
        let mut filter = self.one()?;
        while self.accept(&["and", "&&"]).is_some() {
            filter = and(filter, self.one()?);
        }
        Ok(filter)
    }

    fn one(&mut self) -> Parsed<Filter> {
        if self.accept(&["not", "!"]).is_some() {
            return self.deeper(|parser| Ok(Filter::Not(Box::new(parser.one()?))));
        }
        let started = self.next;
        if self.accept(&["("]).is_some() {
            let inner = self.deeper(|parser| {
                let inner = parser.any_of()?;
                parser.expect(")")?;
                Ok(inner)
            });
            let arithmetic = matches!(
                self.peek().map(|token| token.text),
                Some("=" | "==" | "!=" | "<" | ">" | "<=" | ">=" | "&" | "|" | "+")
            );
            match inner {
                Ok(inner) if !arithmetic => return Ok(inner),
                inner => {
                    self.next = started;
                    // Whichever of the two readings got further says what is wrong.
                    return self.comparison().map_err(|other| match inner {
                        Err(error) if error.at >= other.at => error,
                        _ => other,
                    });
                }
            }
        }
        if self.begins_value() { self.comparison() } else { self.primitive() }
    }

    fn begins_value(&self) -> bool {
        let text = |ahead: usize| self.tokens.get(self.next + ahead).map(|token| token.text);
        let number = text(0).is_some_and(|text| number(text).is_some());
        let relation = matches!(text(1), Some("=" | "==" | "!=" | "<" | ">" | "<=" | ">=" | "&" | "|" | "+"));
        text(1) == Some("[") || text(0) == Some("len") || (number && relation)
    }

    fn primitive(&mut self) -> Parsed<Filter> {
        let token = self.take("a condition")?;
        let filter = match token.text {
            "proto" => self.protocol()?,
            version @ ("ip" | "ip6") if self.accept(&["proto"]).is_some() => {
                let ethertype = if version == "ip" { ethernet::TYPE_IPV4 } else { ethernet::TYPE_IPV6 };
                let of = Filter::Test(Test::Ethertype(ethertype));
                return Ok(and(of, Filter::Test(self.protocol()?)));
            }
            "ether" => return self.ether(),
            "less" => Test::Compare(Value::Len, Relation::LessOrEqual, Value::Number(self.number()?)),
            "greater" => Test::Compare(Value::Len, Relation::GreaterOrEqual, Value::Number(self.number()?)),
            "vlan" => {
                let id =
                    self.peek().and_then(|token| number(token.text)).and_then(|id| u16::try_from(id).ok());
                self.next += usize::from(id.is_some());
                Test::Vlan(id)
            }
            _ => {
                self.next -= 1;
                return self.qualified();
            }
        };
        Ok(Filter::Test(filter))
    }

    fn protocol(&mut self) -> Parsed<Test> {
        let wanted = "a protocol: icmp, icmp6, tcp, udp or a number up to 255";
        let name = self.take(wanted)?;
        let number = match name.text.trim_start_matches('\\') {
            "icmp6" => Ok(ipv6::PROTOCOL_ICMP),
            other => model::question::protocol(other),
        };
        number.map(Test::Protocol).map_err(|_| self.unexpected(name, wanted))
    }

    fn ether(&mut self) -> Parsed<Filter> {
        let side = self.side();
        self.accept(&["host"]);
        let token = self.take("a MAC")?;
        let mac = mac(token.text).ok_or_else(|| self.unexpected(token, "a MAC"))?;
        Ok(Filter::Test(Test::Mac(side, mac)))
    }

    /// `[ip|ip6|arp|tcp|udp|icmp|icmp6] [src|dst] [host|net|port|portrange] [value]`.
    fn qualified(&mut self) -> Parsed<Filter> {
        let protocol = self.accept(&["ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6"]);
        let kind_of = |name: &str| match name {
            "arp" => (Test::Ethertype(ethernet::TYPE_ARP), None),
            "tcp" => (Test::Protocol(ipv4::PROTOCOL_TCP), Some(ipv4::PROTOCOL_TCP)),
            "udp" => (Test::Protocol(ipv4::PROTOCOL_UDP), Some(ipv4::PROTOCOL_UDP)),
            "icmp" => (Test::Protocol(ipv4::PROTOCOL_ICMP), None),
            "icmp6" => (Test::Protocol(ipv6::PROTOCOL_ICMP), None),
            "ip6" => (Test::Ethertype(ethernet::TYPE_IPV6), None),
            _ => (Test::Ethertype(ethernet::TYPE_IPV4), None),
        };
        let protocol = protocol.map(kind_of);
        let sided = self.next;
        let side = self.side();
        let has_side = self.next != sided;
        let kind = match self.accept(&["host", "net", "port", "portrange"]) {
            Some("host") => Some(Kind::Host),
            Some("net") => Some(Kind::Net),
            Some("port") => Some(Kind::Port),
            Some(_) => Some(Kind::PortRange),
            None => None,
        };
        let only = protocol.as_ref().and_then(|(_, only)| *only);
        let (side, only, kind) = match (protocol, kind, has_side) {
            (Some((test, _)), None, false) => return Ok(Filter::Test(test)),
            (Some((test, _)), Some(kind), _) if matches!(kind, Kind::Host | Kind::Net) => {
                self.last = Some((side, None, kind));
                let rest = self.value(side, None, kind)?;
                return Ok(and(Filter::Test(test), rest));
            }
            (_, Some(kind), _) => (side, only, kind),
            (_, None, true) => (side, only, Kind::Host),
            (None, None, false) => self.last.unwrap_or((Side::Either, None, Kind::Host)),
        };
        self.last = Some((side, only, kind));
        self.value(side, only, kind)
    }

    /// `src`, `dst`, `src or dst`, `src and dst`.
    fn side(&mut self) -> Side {
        let text =
            |parser: &Self, ahead: usize| parser.tokens.get(parser.next + ahead).map(|token| token.text);
        let side = match (text(self, 0), text(self, 1), text(self, 2)) {
            (Some("src"), Some("or"), Some("dst")) => (Side::Either, 3),
            (Some("src"), Some("and"), Some("dst")) => (Side::Both, 3),
            (Some("src"), ..) => (Side::Src, 1),
            (Some("dst"), ..) => (Side::Dst, 1),
            _ => (Side::Either, 0),
        };
        self.next += side.1;
        side.0
    }

    fn value(&mut self, side: Side, only: Option<u8>, kind: Kind) -> Parsed<Filter> {
        let wanted = match kind {
            Kind::Host => "an IP address",
            Kind::Net => "an IP prefix",
            Kind::Port => "a port",
            Kind::PortRange => "two ports as in 1000-2000",
        };
        let token = self.take(wanted)?;
        let test = match kind {
            Kind::Host => token.text.parse::<IpAddr>().ok().map(|address| Test::Net(side, address.into())),
            Kind::Net => net(token.text).map(|net| Test::Net(side, net)),
            Kind::Port => port(token.text).map(|port| Test::Ports(side, only, port..=port)),
            Kind::PortRange => token.text.split_once('-').and_then(|(first, last)| {
                let range = port(first)?..=port(last)?;
                (!range.is_empty()).then_some(Test::Ports(side, only, range))
            }),
        };
        let what = if kind == Kind::Host { "a word of a filter nor an IP address" } else { wanted };
        test.map(Filter::Test).ok_or_else(|| self.unexpected(token, what))
    }

    fn number(&mut self) -> Parsed<u32> {
        let token = self.take("a number")?;
        number(token.text).ok_or_else(|| self.unexpected(token, "a number"))
    }

    fn comparison(&mut self) -> Parsed<Filter> {
        let left = self.sum()?;
        let token = self.take("a comparison")?;
        let relation = match token.text {
            "=" | "==" => Relation::Equal,
            "!=" => Relation::NotEqual,
            "<" => Relation::Less,
            "<=" => Relation::LessOrEqual,
            ">" => Relation::Greater,
            ">=" => Relation::GreaterOrEqual,
            _ => return Err(self.unexpected(token, "a comparison: =, !=, <, <=, > or >=")),
        };
        Ok(Filter::Test(Test::Compare(left, relation, self.sum()?)))
    }

    fn sum(&mut self) -> Parsed<Value> {
        let mut value = self.atom()?;
        while let Some(operator) = self.accept(&["&", "|", "+", "-"]) {
            let (a, b) = (Box::new(value), Box::new(self.atom()?));
            value = match operator {
                "&" => Value::And(a, b),
                "|" => Value::Or(a, b),
                "+" => Value::Plus(a, b),
                _ => Value::Minus(a, b),
            };
        }
        Ok(value)
    }

    fn atom(&mut self) -> Parsed<Value> {
        let wanted = "a number, 'len', or bytes of a header as in tcp[13]";
        let token = self.take(wanted)?;
        if token.text == "(" {
            return self.deeper(|parser| {
                let inner = parser.sum()?;
                parser.expect(")")?;
                Ok(inner)
            });
        }
        if let Some(number) = number(token.text).or_else(|| constant(token.text)) {
            return Ok(Value::Number(number));
        }
        let header = match token.text {
            "len" => return Ok(Value::Len),
            "ether" => Header::Ether,
            "ip" => Header::Ip,
            "ip6" => Header::Ip6,
            "icmp6" => Header::Transport(ipv6::PROTOCOL_ICMP),
            "tcp" => Header::Transport(ipv4::PROTOCOL_TCP),
            "udp" => Header::Transport(ipv4::PROTOCOL_UDP),
            "icmp" => Header::Transport(ipv4::PROTOCOL_ICMP),
            _ => return Err(self.unexpected(token, wanted)),
        };
        self.expect("[")?;
        let place = self.take("an offset")?;
        let (offset, size) = place.text.split_once(':').unwrap_or((place.text, "1"));
        let offset = number(offset).or_else(|| constant(offset));
        let size = number(size).filter(|size| matches!(size, 1 | 2 | 4));
        let (Some(offset), Some(size)) = (offset, size) else {
            return Err(self.unexpected(place, "an offset, or an offset and a size of 1, 2 or 4 as in 2:2"));
        };
        self.expect("]")?;
        Ok(Value::Bytes(header, offset, size))
    }
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Any: also of a group, which no port has.
fn mac(text: &str) -> Option<MacAddr> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    Some(MacAddr(bytes?.try_into().ok()?))
}

fn port(text: &str) -> Option<u16> {
    let known = [("ssh", 22), ("domain", 53), ("bootps", 67), ("bootpc", 68), ("http", 80), ("https", 443)];
    known.iter().find(|(name, _)| *name == text).map(|(_, port)| *port).or_else(|| text.parse().ok())
}

/// `10.0.0.0/8`, `2001:db8::/32`, or the parts of IPv4 that matter: `10.1` is 10.1.0.0/16.
fn net(text: &str) -> Option<IpNet> {
    if let Ok(net) = text.parse() {
        return Some(net);
    }
    if let Ok(address @ IpAddr::V6(_)) = text.parse() {
        return Some(address.into());
    }
    let parts: Vec<u8> = text.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let bytes: Vec<u8> = parts.iter().copied().chain([0; 4]).take(4).collect();
    let address = Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?);
    Ipv4Net::new(address, 8 * u8::try_from(parts.len()).ok()?).ok().map(IpNet::from)
}

fn constant(name: &str) -> Option<u32> {
    let known = [
        ("tcpflags", 13),
        ("tcp-fin", 1),
        ("tcp-syn", 2),
        ("tcp-rst", 4),
        ("tcp-push", 8),
        ("tcp-ack", 16),
        ("tcp-urg", 32),
        ("icmptype", 0),
        ("icmpcode", 1),
        ("icmp-echoreply", 0),
        ("icmp-unreach", 3),
        ("icmp-echo", 8),
        ("icmp-timxceed", 11),
        ("icmp6type", 0),
        ("icmp6code", 1),
        ("icmp6-echo", 128),
        ("icmp6-echoreply", 129),
        ("icmp6-neighborsolicit", 135),
        ("icmp6-neighboradvert", 136),
        ("icmp6-packettoobig", 2),
    ];
    known.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

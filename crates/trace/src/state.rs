//! What walks on a host left behind, as bytes that travel.

use model::trace::{Hex, Kept};
use packet::zerocopy::{FromBytes, Immutable, IntoBytes};
use pipeline::host::{Changes, State};
use pipeline::session::Session;
use std::rc::Rc;

/// An entry that is no entry of any table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("kept entry of '{0}' is not readable")]
pub struct NotReadable(String);

macro_rules! plain_tables {
    ($each:ident) => {
        $each!(replies, mappings, bindings, contacts, port_usage, fragments)
    };
}

const SESSIONS: &str = "sessions";

/// The state in its travelling form.
pub(crate) fn to_kept(state: &State) -> Vec<Kept> {
    let mut kept = Vec::new();
    for (key, session) in &state.sessions.0 {
        // Atomics can be copied out of a value that nobody else has.
        let value = session.as_ref().map(|session| Hex(session.duplicate().as_mut_bytes().to_vec()));
        kept.push(Kept { table: SESSIONS.to_owned(), key: Hex(key.as_bytes().to_vec()), value });
    }
    macro_rules! each {
        ($($table:ident),*) => { $(keep(stringify!($table), &state.$table, &mut kept);)* };
    }
    plain_tables!(each);
    kept
}

fn keep<K, V>(table: &str, changes: &Changes<K, V>, kept: &mut Vec<Kept>)
where
    K: IntoBytes + Immutable,
    V: IntoBytes + Immutable,
{
    for (key, value) in &changes.0 {
        let value = value.as_ref().map(|value| Hex(value.as_bytes().to_vec()));
        kept.push(Kept { table: table.to_owned(), key: Hex(key.as_bytes().to_vec()), value });
    }
}

/// The state of its travelling form.
///
/// # Errors
/// An entry that this build cannot read.
pub(crate) fn from_kept(kept: &[Kept]) -> Result<State, NotReadable> {
    let mut state = State::default();
    for entry in kept {
        let bad = || NotReadable(entry.table.clone());
        let read = match entry.table.as_str() {
            SESSIONS => put(entry, |key, value: Option<Session>| {
                state.sessions.0.insert(key, value.map(Rc::new));
            }),
            "replies" => put(entry, |key, value| {
                state.replies.0.insert(key, value);
            }),
            "mappings" => put(entry, |key, value| {
                state.mappings.0.insert(key, value);
            }),
            "bindings" => put(entry, |key, value| {
                state.bindings.0.insert(key, value);
            }),
            "contacts" => put(entry, |key, value| {
                state.contacts.0.insert(key, value);
            }),
            "port_usage" => put(entry, |key, value| {
                state.port_usage.0.insert(key, value);
            }),
            "fragments" => put(entry, |key, value| {
                state.fragments.0.insert(key, value);
            }),
            _ => None,
        };
        read.ok_or_else(bad)?;
    }
    Ok(state)
}

fn put<K: FromBytes, V: FromBytes>(entry: &Kept, insert: impl FnOnce(K, Option<V>)) -> Option<()> {
    let key = K::read_from_bytes(&entry.key.0).ok()?;
    let value = match &entry.value {
        Some(bytes) => Some(V::read_from_bytes(&bytes.0).ok()?),
        None => None,
    };
    insert(key, value);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet::zerocopy::FromZeros;
    use pipeline::Address;
    use pipeline::nat::{Mapping, MappingKey};
    use pipeline::session::SessionKey;

    #[test]
    fn what_was_kept_comes_back_and_what_is_no_entry_is_refused() {
        let mut state = State::default();
        let key = SessionKey { vni: 7, src: Address::v4([10, 0, 0, 1]), ..SessionKey::default() };
        let reply = SessionKey { vni: 8, ..key };
        let mut session = Session::new_zeroed();
        session.reply = reply;
        state.sessions.0.insert(key, Some(Rc::new(session)));
        state.replies.0.insert(reply, Some(key));
        state.replies.0.insert(key, None);
        let mapping = MappingKey { port: 5, ..MappingKey::default() };
        state.mappings.0.insert(mapping, Some(Mapping { port: 2048, ..Mapping::default() }));
        let kept = to_kept(&state);
        let again = from_kept(&kept).unwrap();
        assert_eq!(again.sessions.0[&key].as_ref().unwrap().reply, reply);
        assert_eq!(again.replies.0, state.replies.0);
        assert_eq!(again.mappings.0, state.mappings.0);
        assert_eq!(to_kept(&again), kept);
        let mut cut = kept;
        cut[0].key.0.pop();
        assert_eq!(from_kept(&cut).unwrap_err(), NotReadable("sessions".to_owned()));
    }
}

//! The messages of nftables: tables, chains, rules, maps and their elements.
//!
//! One [`Transaction`] is made by the kernel as a whole or not at all. What the rules
//! are for is said in `ruleset`.

use std::io;

use super::super::netlink::{Messages, Refusal, Socket, attributes};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;
const APPEND: u16 = 0x800;

const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const GET_ELEMENTS: u16 = 13;
const DELETE_ELEMENT: u16 = 14;
const DUMP: u16 = 0x300;

const SET_IS_MAP: u32 = 0x8;
/// Rules add elements.
const SET_GROWS: u32 = 0x20;
const LIST_ELEMENT: u16 = 1;
const DATA_VALUE: u16 = 1;

/// The family of tables for IPv4 and IPv6 together.
const INET: u8 = 1;

/// Where a chain is called from.
pub(super) struct Hook {
    /// `nat` or `filter`.
    pub(super) kind: &'static str,
    /// 0 for packets that come in, 3 for the host's own, 4 for those that go out.
    pub(super) number: u32,
    /// Lower ones are called earlier.
    pub(super) priority: i32,
}

/// Changes that the kernel makes together.
pub(super) struct Transaction<'a> {
    table: &'a str,
    messages: Messages,
    sets: u32,
}

impl<'a> Transaction<'a> {
    pub(super) fn begin(table: &'a str) -> Self {
        let mut messages = Messages::new();
        messages.begin(BATCH_BEGIN, 0, &header(0, SUBSYSTEM));
        Self { table, messages, sets: 0 }
    }

    pub(super) fn commit(mut self, socket: &mut Socket) -> io::Result<Vec<Refusal>> {
        self.messages.begin(BATCH_END, 0, &header(0, SUBSYSTEM));
        socket.send_transaction(self.messages)
    }

    fn message(&mut self, kind: u16, flags: u16) {
        self.messages.begin(SUBSYSTEM << 8 | kind, flags, &header(INET, 0));
        self.messages.put_text(1, self.table);
    }

    pub(super) fn add_table(&mut self) {
        self.message(NEW_TABLE, CREATE);
    }

    pub(super) fn delete_table(&mut self) {
        self.message(DELETE_TABLE, 0);
    }

    pub(super) fn add_chain(&mut self, name: &str, hook: Option<&Hook>) {
        self.message(NEW_CHAIN, CREATE);
        self.messages.put_text(3, name);
        if let Some(hook) = hook {
            self.messages.nest(4, |nested| {
                nested.put(1, &hook.number.to_be_bytes());
                nested.put(2, &hook.priority.to_be_bytes());
            });
            self.messages.put_text(7, hook.kind);
        }
    }

    pub(super) fn add_map(&mut self, name: &str, key: (u32, u32), value: (u32, u32)) {
        self.begin_set(name, SET_IS_MAP, key);
        self.messages.put(6, &value.0.to_be_bytes());
        self.messages.put(7, &value.1.to_be_bytes());
    }

    /// Adds a set of 65,535 elements at most, which rules put there.
    pub(super) fn add_memory(&mut self, name: &str, key: (u32, u32)) {
        self.begin_set(name, SET_GROWS, key);
    }

    fn begin_set(&mut self, name: &str, flags: u32, key: (u32, u32)) {
        self.sets = self.sets.saturating_add(1);
        let id = self.sets;
        self.message(NEW_SET, CREATE);
        self.messages.put_text(2, name);
        self.messages.put(3, &flags.to_be_bytes());
        self.messages.put(4, &key.0.to_be_bytes());
        self.messages.put(5, &key.1.to_be_bytes());
        self.messages.put(10, &id.to_be_bytes());
    }

    pub(super) fn add_element(&mut self, map: &str, key: &[u8], value: &[u8]) {
        self.message(NEW_ELEMENT, CREATE | EXCLUSIVE);
        element(&mut self.messages, map, key, Some(value));
    }

    /// Adds an element without a value; one that is there is no error.
    pub(super) fn add_member(&mut self, set: &str, key: &[u8]) {
        self.message(NEW_ELEMENT, CREATE);
        element(&mut self.messages, set, key, None);
    }

    pub(super) fn delete_element(&mut self, map: &str, key: &[u8]) {
        self.message(DELETE_ELEMENT, 0);
        element(&mut self.messages, map, key, None);
    }

    pub(super) fn add_rule(&mut self, chain: &str, expressions: &[Expression<'_>]) {
        self.message(NEW_RULE, CREATE | APPEND);
        self.messages.put_text(2, chain);
        self.messages.nest(4, |list| {
            for expression in expressions {
                list.nest(LIST_ELEMENT, |element| expression.write(element));
            }
        });
    }
}

fn element(messages: &mut Messages, map: &str, key: &[u8], value: Option<&[u8]>) {
    messages.put_text(2, map);
    messages.nest(3, |list| {
        list.nest(LIST_ELEMENT, |element| {
            element.nest(1, |data| data.put(DATA_VALUE, key));
            if let Some(value) = value {
                element.nest(2, |data| data.put(DATA_VALUE, value));
            }
        });
    });
}

/// Whether the table is there.
pub(super) fn table_exists(socket: &mut Socket, table: &str) -> io::Result<bool> {
    exists(socket, GET_TABLE, table, |_| {})
}

/// Whether the table, the set and the element are there.
pub(super) fn element_exists(
    socket: &mut Socket,
    table: &str,
    set: &str,
    key: &[u8],
) -> io::Result<bool> {
    exists(socket, GET_ELEMENTS, table, |question| element(question, set, key, None))
}

fn exists(
    socket: &mut Socket,
    kind: u16,
    table: &str,
    what: impl FnOnce(&mut Messages),
) -> io::Result<bool> {
    let mut question = Messages::new();
    question.begin(SUBSYSTEM << 8 | kind, 0, &header(INET, 0));
    question.put_text(1, table);
    what(&mut question);
    match socket.ask(question) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The keys of a map's elements.
pub(super) fn elements_of(socket: &mut Socket, table: &str, map: &str) -> io::Result<Vec<Vec<u8>>> {
    let mut question = Messages::new();
    question.begin(SUBSYSTEM << 8 | GET_ELEMENTS, DUMP, &header(INET, 0));
    question.put_text(1, table);
    question.put_text(2, map);
    let mut keys = Vec::new();
    socket.ask_each(question, |body| {
        let lists = attributes(body, 4).filter(|(kind, _)| *kind == 3);
        for (_, element) in lists.flat_map(|(_, list)| attributes(list, 0)) {
            let value = |(_, data)| attributes(data, 0).find(|(kind, _)| *kind == DATA_VALUE);
            let key = attributes(element, 0).find(|(kind, _)| *kind == 1).and_then(value);
            keys.extend(key.map(|(_, key)| key.to_vec()));
        }
    })?;
    Ok(keys)
}

/// A number of a register; each holds four bytes.
pub(super) type Register = u32;

/// The first register.
pub(super) const FIRST_REGISTER: Register = 8;

/// One step of a rule. A comparison that fails ends the rule.
pub(super) enum Expression<'a> {
    /// Loads a fact about the packet (`NFT_META_*`).
    Meta(u32, Register),
    /// Loads bytes of the packet: base (1 network, 2 transport), offset, length.
    Payload(u32, u32, u32, Register),
    /// Loads the state of the connection (`NFT_CT_STATUS`).
    ConnectionStatus(Register),
    /// Loads the type of the destination address by the routing table.
    DestinationType(Register),
    /// Masks a register.
    And(Register, &'a [u8]),
    /// Goes on only if the register has this value.
    Equal(Register, &'a [u8]),
    /// Goes on only if the register has another value.
    Unequal(Register, &'a [u8]),
    /// Goes on only if the map has the key, and loads the value.
    Lookup(&'a str, Register, Register),
    /// Adds the key to the set, where it is not there yet.
    Remember(&'a str, Register),
    /// Changes the destination: family, register of the address, of the port.
    ChangeDestination(u8, Register, Register),
    /// Changes the source to the address of the interface.
    Masquerade,
    /// Goes on in another chain.
    Jump(&'a str),
    /// Drops the packet.
    Drop,
}

const VERDICT_REGISTER: u32 = 0;
const VERDICT_DROP: i32 = 0;
const VERDICT_JUMP: i32 = -3;

impl Expression<'_> {
    fn write(&self, messages: &mut Messages) {
        let (name, fields): (&str, Vec<(u16, u32)>) = match self {
            Self::Meta(key, register) => ("meta", vec![(1, *register), (2, *key)]),
            Self::Payload(base, offset, length, register) => {
                ("payload", vec![(1, *register), (2, *base), (3, *offset), (4, *length)])
            }
            Self::ConnectionStatus(register) => ("ct", vec![(1, *register), (2, 2)]),
            Self::DestinationType(register) => ("fib", vec![(1, *register), (2, 3), (3, 2)]),
            Self::And(register, mask) => {
                let length = u32::try_from(mask.len()).unwrap_or_default();
                ("bitwise", vec![(1, *register), (2, *register), (3, length)])
            }
            Self::Equal(register, _) => ("cmp", vec![(1, *register), (2, 0)]),
            Self::Unequal(register, _) => ("cmp", vec![(1, *register), (2, 1)]),
            Self::Lookup(_, key, value) => ("lookup", vec![(2, *key), (3, *value)]),
            Self::Remember(_, key) => ("dynset", vec![(3, 0), (4, *key)]),
            Self::ChangeDestination(family, address, port) => {
                ("nat", vec![(1, 1), (2, u32::from(*family)), (3, *address), (5, *port)])
            }
            Self::Masquerade => ("masq", vec![]),
            Self::Jump(_) | Self::Drop => ("immediate", vec![(1, VERDICT_REGISTER)]),
        };
        messages.put_text(1, name);
        messages.nest(2, |data| {
            for (kind, value) in fields {
                data.put(kind, &value.to_be_bytes());
            }
            self.write_data(data);
        });
    }

    fn write_data(&self, data: &mut Messages) {
        match self {
            Self::And(_, mask) => {
                data.nest(4, |value| value.put(DATA_VALUE, mask));
                data.nest(5, |value| value.put(DATA_VALUE, &vec![0; mask.len()]));
            }
            Self::Equal(_, wanted) | Self::Unequal(_, wanted) => {
                data.nest(3, |value| value.put(DATA_VALUE, wanted));
            }
            Self::Lookup(set, ..) | Self::Remember(set, _) => data.put_text(1, set),
            Self::Jump(chain) => verdict(data, VERDICT_JUMP, Some(chain)),
            Self::Drop => verdict(data, VERDICT_DROP, None),
            _ => {}
        }
    }
}

fn verdict(data: &mut Messages, code: i32, chain: Option<&str>) {
    data.nest(2, |value| {
        value.nest(2, |verdict| {
            verdict.put(1, &code.to_be_bytes());
            if let Some(chain) = chain {
                verdict.put_text(2, chain);
            }
        });
    });
}

fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

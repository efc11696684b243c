//! The messages of traffic control (tc(8), `linux/pkt_sched.h`, `linux/pkt_cls.h`): filters of
//! what comes in, and limits of what goes out.

use super::netlink::Messages;

const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;

const KIND: u16 = 1;
const OPTIONS: u16 = 2;

/// `TC_H_CLSACT`, and the place in it where packets come in (`TC_H_MIN_INGRESS`).
const CLSACT: u32 = 0xffff_fff1;
const INGRESS: u32 = 0xffff_fff2;
const CLSACT_HANDLE: u32 = 0xffff_0000;
/// `TC_H_ROOT`.
const ROOT: u32 = 0xffff_ffff;
/// `ETH_P_ALL`.
const ALL_PROTOCOLS: u16 = 3;

const BPF_ACTIONS: u16 = 1;
const BPF_LENGTH: u16 = 4;
const BPF_PROGRAM: u16 = 5;
const BPF_FLAGS: u16 = 8;
/// What the program returns is what is done (`TCA_BPF_FLAG_ACT_DIRECT`).
const BPF_IS_ACTION: u32 = 1;

const MIRRED_PARAMETERS: u16 = 2;
const ACTION_STOLEN: u32 = 4;
const EGRESS_REDIRECT: u32 = 1;

const TBF_PARAMETERS: u16 = 1;
const TBF_RATE64: u16 = 4;
const TBF_BURST: u16 = 6;
const LINK_LAYER_ETHERNET: u8 = 1;

/// One instruction of classic BPF (`struct sock_filter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) if_true: u8,
    pub(super) if_false: u8,
    pub(super) operand: u32,
}

/// Adds the message that lets a device have filters.
pub(super) fn add_filters(messages: &mut Messages, device: u32) {
    let header = header(device, CLSACT_HANDLE, CLSACT, 0);
    messages.begin(libc::RTM_NEWQDISC, CREATE | EXCLUSIVE, &header);
    messages.put_text(KIND, "clsact");
}

/// Adds the message that lets a program decide about what comes in. It returns `TC_ACT_SHOT`
/// (2) to drop a packet, and -1 to leave it to the filters with higher numbers.
pub(super) fn add_program(
    messages: &mut Messages,
    device: u32,
    number: u16,
    program: &[Instruction],
) {
    begin_filter(messages, device, number);
    messages.nest(OPTIONS, |options| {
        put_program(options, program);
        options.put(BPF_FLAGS, &BPF_IS_ACTION.to_ne_bytes());
    });
}

/// Adds the message that sends all that comes in through another device.
pub(super) fn add_redirect(messages: &mut Messages, device: u32, number: u16, target: u32) {
    begin_filter(messages, device, number);
    messages.nest(OPTIONS, |options| {
        options.nest(BPF_ACTIONS, |actions| {
            actions.nest(1, |action| {
                action.put_text(1, "mirred");
                action.nest(OPTIONS, |mirred| {
                    let parameters = [0, 0, ACTION_STOLEN, 0, 0, EGRESS_REDIRECT, target];
                    mirred.put(MIRRED_PARAMETERS, &words(&parameters));
                });
            });
        });
        // Every packet: return -1.
        let all = Instruction { code: 6, if_true: 0, if_false: 0, operand: u32::MAX };
        put_program(options, &[all]);
    });
}

/// Adds the message that limits what a device sends, in bytes a second; what is beyond waits
/// for a moment and is dropped then.
pub(super) fn add_limit(messages: &mut Messages, device: u32, rate: u64) {
    // What may go at once: 10 ms, and never less than the largest packet that is not yet cut.
    let burst = u32::try_from(rate / 100).unwrap_or(u32::MAX / 4).clamp(128 << 10, 1 << 30);
    // What may wait: 50 ms.
    let limit = u32::try_from(rate / 20).unwrap_or(u32::MAX / 2).saturating_add(burst);
    messages.begin(libc::RTM_NEWQDISC, CREATE | EXCLUSIVE, &header(device, 0, ROOT, 0));
    messages.put_text(KIND, "tbf");
    messages.nest(OPTIONS, |options| {
        let mut parameters = vec![0, LINK_LAYER_ETHERNET, 0, 0, 0, 0, 0, 0];
        parameters.extend(u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
        parameters.extend([0; 12]);
        parameters.extend(words(&[limit, 0, 0]));
        options.put(TBF_PARAMETERS, &parameters);
        options.put(TBF_BURST, &burst.to_ne_bytes());
        if rate > u64::from(u32::MAX) {
            options.put(TBF_RATE64, &rate.to_ne_bytes());
        }
    });
}

fn begin_filter(messages: &mut Messages, device: u32, number: u16) {
    let info = u32::from(number) << 16 | u32::from(ALL_PROTOCOLS.to_be());
    messages.begin(libc::RTM_NEWTFILTER, CREATE | EXCLUSIVE, &header(device, 0, INGRESS, info));
    messages.put_text(KIND, "bpf");
}

fn put_program(options: &mut Messages, program: &[Instruction]) {
    let length = u16::try_from(program.len()).unwrap_or_default();
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for instruction in program {
        bytes.extend(instruction.code.to_ne_bytes());
        bytes.extend([instruction.if_true, instruction.if_false]);
        bytes.extend(instruction.operand.to_ne_bytes());
    }
    options.put(BPF_LENGTH, &length.to_ne_bytes());
    options.put(BPF_PROGRAM, &bytes);
}

/// `struct tcmsg`.
fn header(device: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    words(&[0, device, handle, parent, info])
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

//! Messages that are kept as the bytes of the wire.
//!
//! A node with a hundred pods has ten thousand metrics, whose labels are the same again and
//! again, and lists of statistics repeat labels and annotations that never change. As messages
//! with a text for each label they cost more than all that is told by them, so that
//! [`Encoded`] holds bytes, and many can share one piece of memory.

use std::{fmt, hash, marker::PhantomData};

use bytes::{Buf, BufMut, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType, decode_varint, encode_key, encode_varint, skip_field},
};

/// A message `M` as it is on the wire; [`Encoded::plain`] has its fields.
pub struct Encoded<M> {
    bytes: Kept,
    message: PhantomData<fn() -> M>,
}

#[derive(Clone)]
enum Kept {
    /// One of many in the same piece of memory, or one that is sent again and again.
    Shared(Bytes),
    /// One that is being decoded, or was.
    Own(Vec<u8>),
}

impl<M> Encoded<M> {
    /// One that was encoded before.
    pub(super) fn from_bytes(bytes: Bytes) -> Self {
        Self { bytes: Kept::Shared(bytes), message: PhantomData }
    }

    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Kept::Shared(bytes) => bytes,
            Kept::Own(bytes) => bytes,
        }
    }
}

impl<M: Message + Default> Encoded<M> {
    /// Its fields.
    ///
    /// # Errors
    /// Where somebody else has encoded it and it is none.
    pub fn plain(&self) -> Result<M, DecodeError> {
        M::decode(self.bytes())
    }
}

impl<M> Clone for Encoded<M> {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), message: PhantomData }
    }
}

impl<M> Default for Encoded<M> {
    fn default() -> Self {
        Self { bytes: Kept::Own(Vec::new()), message: PhantomData }
    }
}

impl<M> PartialEq for Encoded<M> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl<M> Eq for Encoded<M> {}

impl<M> hash::Hash for Encoded<M> {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.bytes().hash(state);
    }
}

impl<M: Message + Default + fmt::Debug> fmt::Debug for Encoded<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plain().fmt(f)
    }
}

impl<M: Message + Default + fmt::Debug> Message for Encoded<M> {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(self.bytes());
    }

    fn encoded_len(&self) -> usize {
        self.bytes().len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    /// Keeps the field as it came.
    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        let mut bytes = match std::mem::take(self).bytes {
            Kept::Shared(bytes) => bytes.into(),
            Kept::Own(bytes) => bytes,
        };
        match wire_type {
            WireType::Varint => {
                encode_key(tag, wire_type, &mut bytes);
                encode_varint(decode_varint(buf)?, &mut bytes);
            }
            WireType::LengthDelimited => {
                let mut content = Bytes::new();
                prost::encoding::bytes::merge(wire_type, &mut content, buf, context)?;
                put_bytes(tag, &content, &mut bytes);
            }
            // No field of these messages has another type.
            _ => skip_field(wire_type, tag, buf, context)?,
        }
        self.bytes = Kept::Own(bytes);
        Ok(())
    }
}

/// A text or bytes, also an empty one: it has a place among others.
pub(super) fn put_bytes(tag: u32, content: &[u8], bytes: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, bytes);
    encode_varint(content.len() as u64, bytes);
    bytes.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::Encoded;
    use crate::cri::PlainPodSandboxAttributes;

    #[test]
    fn what_is_encoded_is_what_the_message_would_be() {
        let plain = PlainPodSandboxAttributes {
            id: "a".to_owned(),
            labels: [("b".to_owned(), "ü".to_owned())].into(),
            ..Default::default()
        };
        let encoded =
            Encoded::<PlainPodSandboxAttributes>::from_bytes(plain.encode_to_vec().into());
        assert_eq!(encoded.encode_to_vec(), plain.encode_to_vec());
        let decoded = Encoded::decode(plain.encode_to_vec().as_slice()).unwrap();
        assert_eq!(decoded, encoded);
        assert_eq!(decoded.plain().unwrap(), plain);
        let cut = &plain.encode_to_vec()[..4];
        assert!(Encoded::<PlainPodSandboxAttributes>::decode(cut).is_err(), "it ends too early");
    }
}

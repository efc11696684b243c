//! Tokens: each stands for one request, is good once and for a minute, and there is a limited
//! number of them. Whoever has the URL needs nothing else, so that it must not be guessed.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::time::Instant;

use super::error::Error;

/// How long a token is good.
pub const LIFETIME: Duration = Duration::from_secs(60);

/// How many tokens wait to be used, as under containerd.
pub const MAX_WAITING: usize = 1000;

/// Requests by their tokens.
#[derive(Debug)]
pub(super) struct Tokens<T> {
    // Held for look-ups and changes of the map.
    waiting: Mutex<HashMap<String, (Instant, T)>>,
}

impl<T> Default for Tokens<T> {
    fn default() -> Self {
        Self { waiting: Mutex::new(HashMap::new()) }
    }
}

impl<T> Tokens<T> {
    /// A token for a request.
    ///
    /// # Errors
    /// [`Error::TooMany`].
    pub(super) fn insert(&self, request: T) -> Result<String, Error> {
        self.insert_at(Instant::now(), request)
    }

    /// The request of a token, which is used up by this.
    pub(super) fn take(&self, token: &str) -> Option<T> {
        self.take_at(Instant::now(), token)
    }

    /// Whether a token is good, and its request is one of those.
    pub(super) fn is_of(&self, token: &str, one_of_those: impl Fn(&T) -> bool) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let found = waiting.get(token);
        found.is_some_and(|(expires, request)| Instant::now() < *expires && one_of_those(request))
    }

    fn insert_at(&self, now: Instant, request: T) -> Result<String, Error> {
        let token = random().map_err(Error::Random)?;
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MAX_WAITING {
            waiting.retain(|_, (expires, _)| *expires > now);
        }
        if waiting.len() >= MAX_WAITING {
            return Err(Error::TooMany(MAX_WAITING));
        }
        waiting.insert(token.clone(), (now + LIFETIME, request));
        Ok(token)
    }

    fn take_at(&self, now: Instant, token: &str) -> Option<T> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (expires, request) = waiting.remove(token)?;
        (now < expires).then_some(request)
    }
}

/// 128 bits that nobody guesses.
fn random() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{LIFETIME, MAX_WAITING, Tokens};

    #[test]
    fn a_token_is_good_once_and_for_a_minute() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        let token = tokens.insert_at(now, 1).unwrap();
        assert_eq!(tokens.take_at(now, "other"), None);
        assert_eq!(tokens.take_at(now, &token), Some(1));
        assert_eq!(tokens.take_at(now, &token), None);
        let token = tokens.insert_at(now, 2).unwrap();
        assert_eq!(tokens.take_at(now + LIFETIME, &token), None);
    }

    #[test]
    fn only_so_many_wait() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        let first = tokens.insert_at(now, 0).unwrap();
        for number in 1..MAX_WAITING {
            tokens.insert_at(later, number).unwrap();
        }
        tokens.insert_at(later, 0).unwrap_err();
        tokens.take_at(later, &first).unwrap();
        tokens.insert_at(later, 0).unwrap();
        tokens.insert_at(later, 0).unwrap_err();
        tokens.insert_at(later + LIFETIME, 0).unwrap();
    }
}

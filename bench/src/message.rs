//! What is sent: printable bytes that begin with a number, by which a reader sees loss, doubles and order.

use anyhow::{Context, Result, bail};

/// Digits of the number, in base 16.
const DIGITS: usize = 16;
/// Bytes that bodies are cut from, so that no two neighbours are alike.
const POOL: usize = 64 * 1024;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Makes bodies of one size.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    pool: Vec<u8>,
    body: Vec<u8>,
}

impl Bodies {
    /// Of so many bytes, at least those of the number.
    pub(crate) fn new(size: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut pool = Vec::with_capacity(POOL + size);
        for _ in 0..POOL + size {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            pool.push(ALPHABET[(state >> 58) as usize]);
        }
        Self { pool, body: vec![0; size.max(DIGITS)] }
    }

    /// The body of a message.
    pub(crate) fn of(&mut self, number: u64) -> &[u8] {
        for (at, digit) in self.body[..DIGITS].iter_mut().enumerate() {
            *digit = HEX[(number >> (60 - 4 * at) & 15) as usize];
        }
        let from = (number as usize).wrapping_mul(61) % POOL;
        let filler = self.body.len() - DIGITS;
        self.body[DIGITS..].copy_from_slice(&self.pool[from..from + filler]);
        &self.body
    }
}

/// The number of a body.
pub(crate) fn number(body: &[u8]) -> Result<u64> {
    let digits = body.get(..DIGITS).context("a body without a number")?;
    digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'9' => Ok(number << 4 | u64::from(digit - b'0')),
        b'a'..=b'f' => Ok(number << 4 | u64::from(digit - b'a' + 10)),
        _ => bail!("a body that begins {:?}", String::from_utf8_lossy(digits)),
    })
}

/// Sees whether messages come once each, in order, and at their full length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Check {
    next: u64,
    size: usize,
    pub(crate) wrong: u64,
}

impl Check {
    pub(crate) fn new(first: u64, size: usize) -> Self {
        Self { next: first, size, wrong: 0 }
    }

    /// Takes note of a body as it is delivered.
    pub(crate) fn see(&mut self, body: &[u8]) {
        match number(body) {
            Ok(number) if number == self.next && body.len() == self.size => self.next += 1,
            Ok(number) => {
                self.wrong += 1;
                self.next = number + 1;
            }
            Err(_) => self.wrong += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let mut bodies = Bodies::new(100);
        for wanted in [0, 1, 0xabc, 70_000, u64::MAX] {
            let body = bodies.of(wanted);
            assert_eq!((body.len(), number(body).expect("a number")), (100, wanted));
        }
        assert!(number(b"short").is_err());
        assert!(number(b"no number in here").is_err());
    }

    #[test]
    fn sees_loss_doubles_and_cuts() {
        let mut bodies = Bodies::new(50);
        let mut seen = |numbers: &[u64]| {
            let mut check = Check::new(0, 50);
            for &number in numbers {
                check.see(bodies.of(number));
            }
            check.wrong
        };
        assert_eq!(seen(&[0, 1, 2, 3]), 0);
        assert_eq!(seen(&[0, 2, 3]), 1);
        assert_eq!(seen(&[0, 1, 1, 2]), 1);
        assert_eq!(seen(&[1, 2]), 1);
        let mut check = Check::new(0, 50);
        check.see(&bodies.of(0)[..49]);
        assert_eq!(check.wrong, 1);
    }
}

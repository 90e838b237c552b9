//! Whole numbers and fractions, with the least and the most that they may be.

use weft_kernel::parse_share;

use crate::config::{
    setting::{Cx, Setting, Shape},
    tree::Node,
};

fn whole(node: &Node, cx: &mut Cx, min: u64, max: u64) -> Option<u64> {
    let what = if max >= u64::from(u32::MAX) {
        format!("a whole number of at least {min}")
    } else {
        format!("a whole number from {min} to {max}")
    };
    let text = cx.text(node, &what)?;
    match text.replace('_', "").parse::<u64>() {
        Ok(number) if (min..=max).contains(&number) => Some(number),
        _ => {
            cx.expected(node, &what);
            None
        }
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int<const MIN: u64, const MAX: u64>(pub u64);

impl<const MIN: u64, const MAX: u64> Int<MIN, MAX> {
    /// The number, saturating.
    pub fn u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }

    /// The number, saturating.
    pub fn u16(self) -> u16 {
        u16::try_from(self.0).unwrap_or(u16::MAX)
    }

    /// The number, saturating.
    pub fn usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<const MIN: u64, const MAX: u64> Setting for Int<MIN, MAX> {
    fn shape() -> Shape {
        Shape::Int { min: MIN, max: MAX }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        whole(node, cx, MIN, MAX).map(Self)
    }
}

/// A number that counts something: 1 to four thousand millions.
pub type Count = Int<1, { u32::MAX as u64 }>;
/// A number that may be nought.
pub type Number = Int<0, { u32::MAX as u64 }>;
/// A port.
pub type Port = Int<1, 65_535>;

/// A number from `MIN` to `MAX` thousandths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fraction<const MIN: u64, const MAX: u64>(pub f64);

/// A share, 0 to 1; it may be written as a percentage.
pub type Share = Fraction<0, 1_000>;
/// A factor, 0 to a million.
pub type Factor = Fraction<0, 1_000_000_000>;

impl<const MIN: u64, const MAX: u64> Setting for Fraction<MIN, MAX> {
    fn shape() -> Shape {
        Shape::Number { min: MIN as f64 / 1_000.0, max: MAX as f64 / 1_000.0 }
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let (min, max) = (MIN as f64 / 1_000.0, MAX as f64 / 1_000.0);
        let what = match max {
            1.0 => "a share from 0 to 1, or such as 20%".to_owned(),
            max => format!("a number from {min} to {max}"),
        };
        let text = cx.text(node, &what)?;
        match parse_share(text) {
            Ok(number) if (min..=max).contains(&number) => Some(Self(number)),
            _ => {
                cx.expected(node, &what);
                None
            }
        }
    }
}

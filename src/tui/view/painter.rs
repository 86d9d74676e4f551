//! Draws the state when something of it has changed. Entry point: [`Painter::paint`].

use std::time::Duration;

use ratatui::Frame;

use super::{Screen, Theme, draw, page, status};
use crate::tui::state::State;

/// What a frame depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FrameKey {
    revision: u64,
    size: (u16, u16),
    /// The text that changes by itself.
    age: Option<String>,
}

/// Draws frames, and knows what is on the screen.
#[derive(Debug)]
pub struct Painter {
    theme: Theme,
    drawn: Option<FrameKey>,
    screen: Screen,
}

impl Painter {
    /// Returns a painter that has not drawn anything.
    #[must_use]
    pub fn new(theme: Theme) -> Self {
        Self { theme, drawn: None, screen: Screen::default() }
    }

    /// Draws the state on a screen of this many columns and rows, at a time since the start, unless the same is there already. `show`
    /// calls the function that it gets with a frame.
    ///
    /// # Errors
    ///
    /// If `show` fails.
    pub fn paint<E>(
        &mut self,
        state: &mut State,
        (width, height): (u16, u16),
        now: Duration,
        show: impl FnOnce(&mut dyn FnMut(&mut Frame<'_>)) -> Result<(), E>,
    ) -> Result<(), E> {
        state.set_page(page(height));
        let age = status::age(state, self.theme, now).map(|(text, _)| text);
        let key = FrameKey { revision: state.revision(), size: (width, height), age };
        if self.drawn.as_ref() == Some(&key) {
            return Ok(());
        }
        let mut screen = Screen::default();
        let theme = self.theme;
        show(&mut |frame| screen = draw(frame, state, theme, now))?;
        state.set_first_line(screen.first_line);
        self.screen = screen;
        self.drawn = Some(key);
        Ok(())
    }

    /// Returns what was drawn last, for the mouse.
    #[must_use]
    pub const fn screen(&self) -> &Screen {
        &self.screen
    }
}

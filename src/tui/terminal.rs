//! The terminal while the screen is shown: its modes, input, and that it is as before at the end, whatever ends the program.
//! Entry points: [`Terminal::open`] and [`restore_on_panic`].

use std::io::{self, Stdout, Write as _, stdout};
use std::mem;
use std::panic;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{
    DisableMouseCapture, EnableMouseCapture, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers,
    MouseButton, MouseEvent, MouseEventKind,
};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use super::state::Input;
use super::view::Screen;

/// Rows that a turn of the wheel moves.
const WHEEL: isize = 3;

/// How long a thread that panics waits for another one to finish drawing.
const LAST_DRAWING: Duration = Duration::from_millis(200);

/// Whether the terminal has our modes. Locked while it is drawn on, so that nothing is drawn after it was restored.
static IS_OURS: Mutex<bool> = Mutex::new(false);

/// The terminal with the modes of the screen, restored when dropped.
pub struct Terminal {
    terminal: ratatui::Terminal<CrosstermBackend<Stdout>>,
}

impl Terminal {
    /// Takes the terminal: no line editing, the alternate screen, events of the mouse.
    ///
    /// # Errors
    ///
    /// If standard output is no terminal, or refuses.
    pub fn open() -> io::Result<Self> {
        let mut is_ours = lock();
        *is_ours = true;
        let opened = Self::set_up();
        if opened.is_err() {
            restore(&mut is_ours);
        }
        opened
    }

    fn set_up() -> io::Result<Self> {
        enable_raw_mode()?;
        // `ratatui::Terminal::clear` would wait for the terminal to report the cursor, which not every one does.
        execute!(stdout(), EnterAlternateScreen, Clear(ClearType::All), EnableMouseCapture)?;
        let terminal = ratatui::Terminal::new(CrosstermBackend::new(stdout()))?;
        Ok(Self { terminal })
    }

    /// Draws. Only what has changed is written.
    ///
    /// # Errors
    ///
    /// If the terminal takes nothing.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        let is_ours = lock();
        if *is_ours {
            self.terminal.draw(draw)?;
        }
        Ok(())
    }

    /// Returns the number of columns and rows.
    ///
    /// # Errors
    ///
    /// If the terminal does not report it.
    pub fn size(&self) -> io::Result<(u16, u16)> {
        self.terminal.size().map(|size| (size.width, size.height))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore(&mut lock());
    }
}

fn lock() -> MutexGuard<'static, bool> {
    IS_OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the terminal the modes that it had.
fn restore(is_ours: &mut bool) {
    if !mem::replace(is_ours, false) {
        return;
    }
    let mut stdout = stdout();
    // Each as far as it works: a terminal that is gone takes nothing, and there is nobody to report it to.
    let _gone: io::Result<()> = execute!(stdout, DisableMouseCapture, LeaveAlternateScreen, Show);
    let _gone: io::Result<()> = stdout.flush();
    let _gone: io::Result<()> = disable_raw_mode();
}

/// Gives the terminal its line editing back without writing to it, which may wait for ever. What is on it stays.
pub fn leave_raw_mode() {
    // A terminal that is gone has no modes, and the program ends.
    let _gone: io::Result<()> = disable_raw_mode();
}

/// From now on a panic in any thread restores the terminal before anything is done or printed about it, and nothing is drawn after it.
pub fn restore_on_panic() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let deadline = Instant::now() + LAST_DRAWING;
        loop {
            match IS_OURS.try_lock() {
                Ok(mut is_ours) => {
                    restore(&mut is_ours);
                    break;
                }
                Err(TryLockError::Poisoned(poisoned)) => {
                    restore(&mut poisoned.into_inner());
                    break;
                }
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(5));
                }
                // It is this thread that panics while it draws, or the terminal takes nothing.
                Err(TryLockError::WouldBlock) => {
                    restore(&mut true);
                    break;
                }
            }
        }
        report(panic);
    }));
}

/// Returns the input that an event is; `None` for one without a meaning. `screen` is what was drawn last, for the mouse.
#[must_use]
pub fn input(event: &Event, screen: &Screen) -> Option<Input> {
    match event {
        Event::Key(key) => of_key(key),
        Event::Mouse(mouse) => of_mouse(*mouse, screen),
        _ => None,
    }
}

fn of_key(key: &KeyEvent) -> Option<Input> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return matches!(key.code, KeyCode::Char('c' | 'C')).then_some(Input::Interrupt);
    }
    Some(match key.code {
        // Escape and a key that was pressed at once arrive as this.
        KeyCode::Char(_) if key.modifiers.contains(KeyModifiers::ALT) => return None,
        KeyCode::Char(character) => Input::Char(character),
        KeyCode::Up => Input::Up,
        KeyCode::Down => Input::Down,
        KeyCode::Left => Input::Left,
        KeyCode::Right => Input::Right,
        KeyCode::PageUp => Input::PageUp,
        KeyCode::PageDown => Input::PageDown,
        KeyCode::Home => Input::Home,
        KeyCode::End => Input::End,
        KeyCode::Tab => Input::Tab,
        KeyCode::BackTab => Input::BackTab,
        KeyCode::Enter => Input::Enter,
        KeyCode::Esc => Input::Escape,
        KeyCode::Backspace => Input::Backspace,
        _ => return None,
    })
}

fn of_mouse(mouse: MouseEvent, screen: &Screen) -> Option<Input> {
    match mouse.kind {
        MouseEventKind::Down(MouseButton::Left) => screen.hit(mouse.column, mouse.row).map(Input::Click),
        MouseEventKind::ScrollUp => Some(Input::Wheel(-WHEEL)),
        MouseEventKind::ScrollDown => Some(Input::Wheel(WHEEL)),
        _ => None,
    }
}

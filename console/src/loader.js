// Loads what an element shows, again after a while and when the browser is online or looked at again.
import { Refusal } from './refusal.js';

export class Loader {
  /** `load` gets the client and returns the data. `seconds` is how often it is loaded again while somebody looks. */
  constructor(host, load, { seconds = () => 0 } = {}) {
    this.host = host;
    this.loadData = load;
    this.seconds = seconds;
    this.data = undefined;
    this.refusal = undefined;
    this.isLoading = false;
    this.round = 0;
    host.addController(this);
  }

  hostConnected() {
    window.addEventListener('online', this.load);
    document.addEventListener('visibilitychange', this.wake);
    if (this.client) this.begin();
  }

  hostDisconnected() {
    window.removeEventListener('online', this.load);
    document.removeEventListener('visibilitychange', this.wake);
    this.end();
  }

  hostUpdate() {
    if (this.host.client === this.client) return;
    this.end();
    // What another client has brought is not for whoever looks now.
    if (this.client) this.host.forget?.();
    this.data = undefined;
    this.refusal = undefined;
    this.client = this.host.client;
    if (this.client) this.begin();
  }

  begin() {
    this.data = undefined;
    this.user = undefined;
    // A client that gets its access token from elsewhere has no `auth`, and throws.
    try {
      this.subscription = this.client.auth.onAuthStateChange((event, session) => {
        if (event === 'INITIAL_SESSION') this.user = session?.user?.id ?? null;
        // supabase-js holds a lock while it tells of a change.
        else setTimeout(this.follow);
      }).data.subscription;
    } catch { /* then whoever signs in reloads the element */ }
    this.load();
  }

  /**
   * Forgets what somebody else has seen. An event does not say whose requests are sent: supabase-js tells also of logins in
   * other pages with the same key of storage, though each may have a storage of its own.
   */
  follow = async () => {
    const { client, subscription } = this;
    if (!subscription) return;
    const { data, error } = await client.auth.getSession();
    if (error || subscription !== this.subscription) return;
    const user = data.session?.user?.id ?? null;
    const isAnother = this.user !== undefined && this.user !== user;
    this.user = user;
    if (!isAnother) return;
    this.data = undefined;
    this.host.forget?.();
    this.host.requestUpdate();
    this.load();
  };

  end() {
    this.round += 1;
    clearTimeout(this.timer);
    this.subscription?.unsubscribe();
    this.subscription = undefined;
  }

  wake = () => {
    if (document.visibilityState === 'visible') this.load();
  };

  load = async () => {
    if (!this.client || !this.host.isConnected) return;
    clearTimeout(this.timer);
    this.round += 1;
    const { round } = this;
    this.isLoading = true;
    this.host.requestUpdate();
    let data;
    let refusal;
    try {
      data = await this.loadData(this.client);
    } catch (error) {
      refusal = error instanceof Refusal ? error : new Refusal({ message: error.message, status: -1 });
    }
    // An answer that was overtaken by another question does not count.
    if (round !== this.round) return;
    this.isLoading = false;
    this.refusal = refusal;
    if (!refusal) this.data = data;
    this.host.requestUpdate();
    const seconds = this.seconds();
    if (seconds > 0) this.timer = setTimeout(this.again, seconds * 1000);
  };

  again = () => {
    // A page that nobody looks at asks nothing: `wake` does.
    if (document.visibilityState === 'visible') this.load();
  };
}

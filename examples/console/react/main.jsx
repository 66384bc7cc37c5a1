// React 19: properties and events of the elements are written as those of any other element.
import { createClient } from '@supabase/supabase-js';
import { useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import '@supabase-pat/console';

const { url, anonKey } = await (await fetch('/config.json')).json();
const supabase = createClient(new URL(url, location.href).href.replace(/\/$/, ''), anonKey);

function App() {
  const [session, setSession] = useState(null);
  const [made, setMade] = useState('');
  useEffect(() => {
    const { data } = supabase.auth.onAuthStateChange((_, now) => setSession(now));
    return () => data.subscription.unsubscribe();
  }, []);
  return (
    <>
      <h1>The elements in React</h1>
      {session === null
        ? <pat-sign-in client={supabase} />
        : <pat-tokens client={supabase} onpat-token-minted={({ detail }) => setMade(`${detail.name} was made`)} />}
      <p role="status">{made}</p>
    </>
  );
}

createRoot(document.querySelector('#app')).render(<App />);

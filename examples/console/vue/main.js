// Vue 3. The compiler has to know which elements are not its own: in vite.config.js
//   vue({ template: { compilerOptions: { isCustomElement: (tag) => tag.startsWith('pat-') } } })
import { createApp } from 'vue';
import App from './App.vue';

createApp(App).mount('#app');
